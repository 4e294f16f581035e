"""The factory on its host: installed from this checkout, run as its own account, asked over its own interfaces."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.testbed.command import CommandError
from tests.testbed.grid import IMAGES_INSIDE, SITE_POOL, USER_POOL, WORKERS, Grid
from tests.testbed.hosts import Host
from tests.testbed.trees import FACTORY

PROJECT = Path(__file__).resolve().parents[3]
INSTALLED = "/opt/pilot-factory"
STATE = "/var/lib/pilot-factory"
CONFIGURATION = f"{STATE}/factory.yaml"
PORT = 8080
URL = f"http://{SITE_POOL.head}:{PORT}"
START_TIMEOUT_SECONDS = 60.0
IDLE_SHUTDOWN_SECONDS = 20

ENTRIES = {
    "with-python": ("pyz", f'TARGET.Machine == "{WORKERS[0]}.{SITE_POOL.domain}"'),
    "without-python": ("sh", f'TARGET.Machine == "{WORKERS[1]}.{SITE_POOL.domain}"'),
}
"""Entry -> payload and the nodes it is for."""


@dataclass(frozen=True, slots=True)
class PilotRow:
    """A pilot as the factory's web page tells it."""

    id: str
    entry: str
    state: str
    host: str
    exit_code: int | None
    outcome: str
    message: str
    directory: str
    payload: str
    report: bool

    @property
    def ended(self) -> bool:
        """True when nothing more will come of it."""
        return self.state in ("ended", "removed", "refused", "lost")


class FactoryHost:
    """The factory of one grid."""

    def __init__(self, grid: Grid, payloads: Path) -> None:
        self._grid = grid
        self._host: Host = grid.factory
        self._payloads = payloads
        self._server: subprocess.Popen[str] | None = None

    def install(self) -> None:
        """Put code, payload, launcher, tokens and configuration in their places."""
        code = self._host.path(INSTALLED)
        for package in ("pilot_agent", "server_stub"):
            shutil.copytree(PROJECT / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy2(PROJECT / "packaging" / "launcher.sh", code / "launcher.sh")
        (code / "launcher.sh").chmod(0o755)
        state = self._host.path(STATE)
        for name in ("payload", "tokens"):
            (state / name).mkdir(parents=True, mode=0o755)
        for payload, _ in ENTRIES.values():
            built = self._payloads / f"pilot.{payload}"
            shutil.copyfile(built, state / "payload" / built.name)
        for number in range(len(ENTRIES)):
            token = state / "tokens" / f"{number}.token"
            token.write_text(self._grid.token() + "\n", encoding="ascii")
            token.chmod(0o600)
        (state / "factory.yaml").write_text(json.dumps(configuration(), indent=1) + "\n", encoding="utf-8")
        for path in (state, *state.rglob("*")):
            os.chown(path, FACTORY.uid, FACTORY.uid)

    def start(self) -> None:
        """Start the server and wait until it answers. Raises CommandError with what it said."""
        log = self._host.directory / "factory.log"
        with log.open("w", encoding="utf-8") as file:
            self._server = self._host.popen(
                self._words("serve"), user=FACTORY.name, cwd=INSTALLED, stdout=file, stderr=file
            )
        until = time.monotonic() + START_TIMEOUT_SECONDS
        while self._curl("/pilots?format=json").returncode != 0:
            if self._server.poll() is not None or time.monotonic() > until:
                raise CommandError(f"the factory's server does not answer at {URL}:\n{log.read_text()}")
            time.sleep(0.2)

    def submit(self, entry: str) -> None:
        """Submit one pilot to an entry. Raises CommandError with what the factory said."""
        words = [*self._words("submit"), "--entry", entry, "--json"]
        done = self._host.run(words, user=FACTORY.name, cwd=INSTALLED)
        if done.returncode != 0:
            raise CommandError(f"the factory did not submit a pilot to {entry}: {done.stderr.strip()}")

    def pilots(self) -> list[PilotRow]:
        """All pilots, over HTTP. Raises CommandError."""
        return [
            PilotRow(**{name: row[name] for name in PilotRow.__dataclass_fields__})
            for row in self._get("/pilots?format=json")
        ]

    def report(self, pilot: PilotRow) -> dict[str, Any]:
        """A pilot's report, over HTTP. Raises CommandError when there is none."""
        report: dict[str, Any] = self._get(f"/pilots/{pilot.id}/report")
        return report

    def returned(self, pilot: PilotRow) -> Path:
        """Where the outer machine finds what a pilot returned."""
        return self._host.path(pilot.directory)

    def _get(self, path: str) -> Any:
        done = self._curl(path)
        if done.returncode != 0:
            raise CommandError(f"{URL}{path}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def _curl(self, path: str) -> subprocess.CompletedProcess[str]:
        return self._host.run(["curl", "--silent", "--show-error", "--fail", "--max-time", "10", f"{URL}{path}"])

    def _words(self, command: str) -> list[str]:
        return ["python3", "-m", "server_stub", command, "--config", CONFIGURATION]


def require_payloads(payloads: Path) -> None:
    """Raise CommandError, naming what is missing, unless both payloads were built."""
    missing = [f"pilot.{kind}" for kind, _ in ENTRIES.values() if not (payloads / f"pilot.{kind}").exists()]
    if missing:
        raise CommandError(f"{payloads} has no {' and no '.join(missing)}; run `make payload` first")


def configuration() -> dict[str, Any]:
    """The factory's file. The site refuses jobs without containers, the VO only prefers them."""
    images = {
        "debian13": [f"{IMAGES_INSIDE}/debian13", f"{IMAGES_INSIDE}/debian13.sif"],
        "debian12": ["/cvmfs/images.example.org/debian12", f"{IMAGES_INSIDE}/debian12.sif"],
    }
    service = {"command": ["/bin/sh", "-c", "date > ready; exec sleep 100000"], "ready_file": "ready"}
    return {
        "name": "demo-factory",
        "state": STATE,
        "payloads": f"{STATE}/payload",
        "launcher": f"{INSTALLED}/launcher.sh",
        "url": URL,
        "address": SITE_POOL.head,
        "port": PORT,
        "collect_seconds": 1,
        "pilot": {
            "pool": {"collectors": [f"{USER_POOL.head}:9618"]},
            "vo": {"name": "demo", "containers": "preferred"},
            "images": images,
            # One job names an image that is not in the dictionary.
            "containers": {"allowed_paths": [IMAGES_INSIDE]},
            "services": {"clock": service},
            "startd": {"idle_shutdown_seconds": IDLE_SHUTDOWN_SECONDS},
            "on_failure": {"hold_seconds": 0},
        },
        "entries": [
            {
                "name": name,
                "site": "Testbed",
                "payload": payload,
                "requirements": requirements,
                "max_pilots": 1,
                "tokens": f"{STATE}/tokens",
                "pilot": {"site": {"containers": "required"}},
            }
            for name, (payload, requirements) in ENTRIES.items()
        ],
    }
