"""A new factory's files: its own with comments, one entry, and the directories and keys that they name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from pilot_agent.files import write_atomically
from server_stub.factory.tokens import load_key
from server_stub.new_files import require_free

FILE = "factory.yaml"
ENTRIES = "entries.yaml"
LAUNCHER = "launcher.sh"
PAYLOADS = ("pilot.pyz", "pilot.sh")
CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

FACTORY_YAML = """\
# A factory of pilots. Every key: docs/how-to/run-a-factory.md. After a change: pilot-factory check, then SIGHUP.
name: {name}
state: {state}                  # the store, and a private directory for each pilot
payloads: payloads            # pilot.pyz and pilot.sh, which worker nodes fetch
launcher: launcher.sh         # the program of the batch jobs

# Where worker nodes reach the server, and where it listens. For frontends and pilots of other hosts it needs HTTPS:
# give certificate and key (PEM), or put a proxy in front that speaks it.
url: {url}
address: {address}
port: {port}
# certificate: tls/factory.pem
# key: tls/factory.key
# uploads: true               # pilots send events and reports while they run; needs HTTPS

# Of every pilot's configuration the layer "factory": pilot-agent config reference
pilot:
  pool:
    collectors: [{collectors}]

# Site queues: entries here, and those of files, such as what `pilot-factory entries import` made.
entries_files: [entries.yaml]
"""

ENTRIES_YAML = """\
# Entries: a site's queue each.
entries:
  - name: local
    site: {site}
    type: local               # the HTCondor pool whose access point runs on this host
    payload: {payload}              # pyz needs Python 3.11 on the nodes, sh brings its own
    cores: 1                  # what each pilot asks for; auto: whatever its slot has
    memory_mib: 2048
    limits:
      total: 10               # pilots that wait or run
      idle: 5
    # vos: [example]          # who may use it; without this everybody
    # tokens: {tokens}          # a directory with one token file for each pilot to come
    pilot:                    # of its pilots' configuration the layer "entry"
      startd:
        idle_shutdown_seconds: 600
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a new factory is to be. ``sources`` are directories in which payloads and launcher are looked for; ``state``
    is where its store shall be, else beside its file."""

    directory: str
    name: str
    url: str
    address: str
    port: int
    collectors: tuple[str, ...]
    site: str
    sources: tuple[str, ...] = ()
    state: str | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What was written, and what is left for people to do."""

    written: tuple[str, ...]
    left: tuple[str, ...]


def make_factory(plan: Plan) -> Made:
    """Write everything. Nothing that is there is changed: ``PilotError`` (file.exists) before anything is written."""
    directory = os.path.abspath(plan.directory)
    paths = {name: os.path.join(directory, name) for name in (FILE, ENTRIES, LAUNCHER, "payloads")}
    paths["state"] = os.path.abspath(plan.state) if plan.state else os.path.join(directory, "state")
    require_free(paths.values())
    os.makedirs(directory, exist_ok=True)
    os.makedirs(paths["payloads"], mode=0o755, exist_ok=True)
    os.makedirs(paths["state"], mode=0o700, exist_ok=True)
    os.chmod(paths["state"], 0o700)
    load_key(paths["state"])
    sources = (*plan.sources, os.path.join(CHECKOUT, "build"), os.path.join(CHECKOUT, "packaging"))
    left, copied = [], []
    for name in (*PAYLOADS, LAUNCHER):
        target = os.path.join(directory, *(() if name == LAUNCHER else ("payloads",)), name)
        found = _find(name, sources)
        if found is None:
            left.append(f"put {name} there: {target}")
        else:
            shutil.copyfile(found, target)
            os.chmod(target, 0o755)  # noqa: S103 - everybody may read what is published
            copied.append(target)
    payload = "sh" if any(path.endswith("pilot.sh") for path in copied) else "pyz"
    values = {
        "name": plan.name, "url": plan.url, "address": plan.address, "port": plan.port, "site": plan.site,
        "state": paths["state"] if plan.state else "state", "payload": payload,
        # A pilot's token is moved to its directory: both must be in one file system.
        "tokens": os.path.join(paths["state"], "tokens") if plan.state else "tokens",
        "collectors": ", ".join(f'"{one}"' for one in plan.collectors),
    }  # fmt: skip
    wanted = {f"pilot.{payload}", LAUNCHER}
    write_atomically(paths[ENTRIES], ENTRIES_YAML.format(**values).encode(), mode=0o644)
    write_atomically(paths[FILE], FACTORY_YAML.format(**values).encode(), mode=0o644)
    needed = [line for line in left if line.split()[1] in wanted]
    return Made((paths[FILE], paths[ENTRIES], *copied, paths["state"]), tuple(needed))


def _find(name: str, sources: Sequence[str]) -> str | None:
    paths = (os.path.join(source, name) for source in sources)
    return next((path for path in paths if os.path.isfile(path)), None)
