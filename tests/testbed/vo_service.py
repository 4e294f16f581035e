"""A factory and a VO's frontend on the grid's factory host, each run as an account of its own from this checkout."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.testbed import unit_tests
from tests.testbed.command import CommandError
from tests.testbed.grid import SITE_POOL, USER_POOL, Grid
from tests.testbed.hosts import Bind, Host
from tests.testbed.pilots import merged
from tests.testbed.slurm_site import give
from tests.testbed.trees import FACTORY, USER, Account

PROJECT = Path(__file__).resolve().parents[2]
CODE = "/opt/services"
PORT = 8443
URL = f"https://{SITE_POOL.head}:{PORT}"
ENTRY, SITE_NAME = "local", "Testbed"
FACTORY_NAME, FRONTEND_NAME, VO = "east", "example-vo", "example"
FACTORY_HOME, FRONTEND_HOME = f"{FACTORY.home}/pilot-factory", f"{USER.home}/pilot-frontend"
FACTORY_FILE, FRONTEND_FILE = f"{FACTORY_HOME}/factory.yaml", f"{FRONTEND_HOME}/frontend.yaml"
ENVIRONMENT = {"PYTHONPATH": f"{CODE}:{unit_tests.SITE}"}
CYCLE_SECONDS = 1.0
WAIT_SECONDS = 120.0
POLL_SECONDS = 0.2
LOG_LINES = 40

Json = Any


def libraries() -> Bind:
    """What the services need of PyPI, for a grid's plan."""
    return Bind(unit_tests.libraries(), unit_tests.SITE)


@dataclass
class Service:
    """One of the two: commands that its operator gives, and the process that runs."""

    host: Host
    account: Account
    words: tuple[str, ...]
    file: str
    log: Path
    process: subprocess.Popen[str] | None = field(default=None, repr=False)

    def command(self, *words: str, timeout_seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return self.host.run(
            self._argv(words),
            user=self.account.name,
            cwd=CODE,
            env=ENVIRONMENT,
            timeout_seconds=timeout_seconds,
        )

    def told(self, *words: str) -> Json:
        """The JSON that a command answered. Raises CommandError with what it said where it failed."""
        done = self.command(*words, "--json")
        if done.returncode != 0:
            raise CommandError(f"{' '.join(words)}: {done.returncode}\n{done.stderr}\n{self.said()}")
        return json.loads(done.stdout)

    def start(self) -> None:
        """Start it; returns at once."""
        with self.log.open("a", encoding="utf-8") as file:
            self.process = self.host.popen(
                self._argv(("run",)),
                user=self.account.name,
                cwd=CODE,
                env=ENVIRONMENT,
                stdout=file,
                stderr=file,
            )

    def stop(self) -> int:
        """End it as its operator would; its exit status."""
        if self.process is None:
            return 0
        self.host.signal(self.process, signal.SIGTERM)
        try:
            return self.process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise CommandError(f"{self.words} did not end\n{self.said()}") from None
        finally:
            self.process = None

    def said(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-LOG_LINES:])

    def _argv(self, words: tuple[str, ...]) -> list[str]:
        return ["python3", "-B", "-m", "server_stub", *self.words, words[0], "--config", self.file, *words[1:]]


class VoService:
    """Factory and frontend, installed and not yet started."""

    def __init__(
        self,
        grid: Grid,
        payloads: Path,
        directory: Path,
        *,
        factory: Mapping[str, Json] | None = None,
        frontend: Mapping[str, Json] | None = None,
    ) -> None:
        """``factory`` and ``frontend`` are laid over their files; a None there removes."""
        self.grid = grid
        self._changes = {FACTORY_NAME: factory or {}, FRONTEND_NAME: frontend or {}}
        host = grid.factory
        self.factory = Service(host, FACTORY, ("factory",), FACTORY_FILE, directory / "factory.log")
        self.frontend = Service(host, USER, ("frontend",), FRONTEND_FILE, directory / "frontend.log")
        code = host.path(CODE)
        for package in ("pilot_agent", "server_stub"):
            shutil.copytree(PROJECT / package, code / package, ignore=shutil.ignore_patterns("__pycache__"))
        _own(host.path(f"{CODE}"), 0)
        public = self._install_frontend()
        self._install_factory(payloads, public)

    def status(self) -> dict[str, Json]:
        """What the frontend's last cycle told; nothing before the first."""
        path = self.grid.factory.path(f"{FRONTEND_HOME}/state/status.json")
        told: dict[str, Json] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return told

    def entry(self) -> dict[str, Json]:
        """The entry's row in it."""
        rows = self.status().get("entries", [])
        return rows[0] if rows else {}

    def wait(self, what: str, ready: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
        """Wait for a condition. Raises CommandError with both logs when it does not come."""
        until = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > until:
                raise CommandError(
                    f"no {what} after {seconds:.0f} s: {json.dumps(self.status(), indent=1)}\n"
                    f"--- frontend\n{self.frontend.said()}\n--- factory\n{self.factory.said()}"
                )
            time.sleep(POLL_SECONDS)

    def wait_cycles(self, count: int) -> None:
        """Until so many more cycles have ended."""
        before = self.status().get("cycle", 0)
        self.wait(f"{count} further cycles", lambda: self.status().get("cycle", 0) >= before + count)

    def _install_frontend(self) -> str:
        """The frontend as ``init`` makes it, with a file of its own; its public key."""
        host = self.grid.factory
        give(host, f"{USER.home}/.placed", "", account=USER)
        made = host.run(
            ["python3", "-B", "-m", "server_stub", "frontend", "init", FRONTEND_HOME, "--json"],
            user=USER.name, cwd=CODE, env=ENVIRONMENT,
        )  # fmt: skip
        if made.returncode != 0:
            raise CommandError(f"frontend init: {made.stderr}")
        token = self.grid.token(f"frontend@{USER_POOL.domain}", authorizations=("READ",))
        give(host, f"{FRONTEND_HOME}/tokens.d/pool", token + "\n", mode=0o600, account=USER)
        give(host, FRONTEND_FILE, json.dumps(self._changed(frontend_document())), account=USER)
        public: str = json.loads(made.stdout)["public_key"]
        return public

    def _install_factory(self, payloads: Path, public: str) -> None:
        host = self.grid.factory
        home = host.path(FACTORY_HOME)
        for name in ("payload", "tokens"):
            (home / name).mkdir(parents=True)
        shutil.copyfile(payloads / "pilot.pyz", home / "payload" / "pilot.pyz")
        shutil.copy2(PROJECT / "packaging" / "launcher.sh", home / "launcher.sh")
        (home / "launcher.sh").chmod(0o755)
        self._certify(home)
        for number in range(20):
            token = home / "tokens" / f"{number}.token"
            token.write_text(self.grid.token() + "\n", encoding="ascii")
            token.chmod(0o600)
        (home / "factory.yaml").write_text(json.dumps(self._changed(factory_document(public))), encoding="utf-8")
        _own(home, FACTORY.uid)
        # Bindings of 25.x and daemons of 23.9 do not agree on how the file system proves an account: a token does.
        identity = f"{FACTORY.name}@{SITE_POOL.domain}"
        done = host.run(["condor_token_create", "-identity", identity, "-authz", "READ", "-authz", "WRITE"])
        give(host, f"{FACTORY.home}/.condor/tokens.d/site", done.stdout, mode=0o600)

    def _changed(self, document: dict[str, Json]) -> dict[str, Json]:
        return merged(document, self._changes[document["name"]])

    def _certify(self, home: Path) -> None:
        """A certificate that vouches for itself; the frontend is given it as the authority."""
        host = self.grid.factory
        words = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        words += ["-subj", "/CN=factory", "-addext", f"subjectAltName=IP:{SITE_POOL.head}"]
        files = ["-keyout", f"{FACTORY_HOME}/server.key", "-out", f"{FACTORY_HOME}/server.pem"]
        done = host.run(["openssl", "req", "-x509", *words, *files])
        if done.returncode != 0:
            raise CommandError(f"openssl: {done.stderr}")
        authority = (home / "server.pem").read_text(encoding="ascii")
        give(host, f"{FRONTEND_HOME}/factory.pem", authority, account=USER)


def _own(path: Path, uid: int) -> None:
    for one in (path, *path.rglob("*")):
        os.chown(one, uid, uid)


def frontend_document() -> dict[str, Json]:
    """The frontend's file: quick, and otherwise as an operator would write it."""
    return {
        "name": FRONTEND_NAME,
        "vo": {"name": VO, "containers": "never"},
        "pool": {
            "collectors": [f"{USER_POOL.head}:9618"],
            "tokens": "tokens.d",
            "parameters": {"NO_DNS": "true", "DEFAULT_DOMAIN_NAME": USER_POOL.domain},
            "most_seconds": 5,
        },
        "factories": [{"name": FACTORY_NAME, "url": URL, "authorities": "factory.pem", "most_seconds": 3}],
        "limits": {"default": {"most_pilots": 2}},
        "tuning": {"attenuation": 1},
        "cycle_seconds": CYCLE_SECONDS,
    }


def factory_document(public: str) -> dict[str, Json]:
    """The factory's file: one entry, the pool of this site."""
    return {
        "name": FACTORY_NAME,
        "state": "state",
        "payloads": "payload",
        "launcher": "launcher.sh",
        "url": URL,
        "address": SITE_POOL.head,
        "certificate": "server.pem",
        "key": "server.key",
        "port": PORT,
        "collect_seconds": 1,
        "frontends": [{"name": FRONTEND_NAME, "vos": [VO], "public_key": public}],
        "pilot": {
            "pool": {"collectors": [f"{USER_POOL.head}:9618"]},
            "vo": {"name": VO, "containers": "never"},
            "startd": {"idle_shutdown_seconds": 8, "tail_shutdown_seconds": 8},
            "on_failure": {"hold_seconds": 0},
            "benchmarks": {"seconds": 0.01, "budget_seconds": 1000},
        },
        "entries": [
            {
                "name": ENTRY,
                "site": SITE_NAME,
                "payload": "pyz",
                "requirements": f'TARGET.Machine == "wn1.{SITE_POOL.domain}"',
                "tokens": "tokens",
                "vos": [VO],
                "cores": 2,
                "memory_mib": 500,
                "limits": {"total": 2},
                # The nodes' HTCondor knows nothing of the factory's authority.
                "submit": {"payload": "file"},
                "pilot": {"site": {"containers": "never"}, "time": {"vacate_seconds": 3}},
            }
        ],
    }
