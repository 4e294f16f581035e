"""Debian's PostgreSQL, run as an ordinary user in a host of the testbed, spoken to over its socket from outside."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Self
from urllib.parse import quote

from tests.testbed import overlays, trees
from tests.testbed.command import CommandError
from tests.testbed.hosts import Host, HostPlan
from tests.testbed.network import Network

PROGRAMS = overlays.POSTGRESQL
HOME = "/srv/postgresql"
DATA = f"{HOME}/data"
USER = trees.FACTORY
START_SECONDS = 60.0


class PostgreSQL:
    """A server that answers; use as a context manager."""

    def __init__(self, directory: Path) -> None:
        self._network = Network()
        plan = HostPlan("database", "10.77.0.30", trees.ensure(), "site.test", over=(overlays.FACTORY.ensure(),))
        self._host = Host(plan, directory / "database", self._network)
        self._log = directory / "postgresql.log"
        self._door: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._network.start()
        try:
            self._host.start()
            self._host.run(["install", "-d", "-m", "0700", "-o", USER.name, "-g", USER.name, HOME])
            words = ["--auth-local=trust", "--encoding=UTF8", "--locale=C.UTF-8", f"--username={USER.name}"]
            self._must([f"{PROGRAMS}/initdb", *words, "--pgdata", DATA])
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *about: object) -> None:
        self._host.stop()
        if self._door is not None:
            self._door.wait()
        self._network.stop()

    def start(self) -> None:
        """Start the server and wait until it answers. Raises CommandError with what it said."""
        with self._log.open("a", encoding="utf-8") as log:
            words = [f"{PROGRAMS}/postgres", "-D", DATA, "-k", HOME, "-c", "listen_addresses="]
            self._door = self._host.popen(words, user=USER.name, stdout=log, stderr=log)
        until = time.monotonic() + START_SECONDS
        while self._run([f"{PROGRAMS}/pg_isready", "-q", "-h", HOME]).returncode != 0:
            if self._door.poll() is not None or time.monotonic() > until:
                raise CommandError(f"PostgreSQL does not answer:\n{self._log.read_text(encoding='utf-8')}")
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL to every process of the server at once, as when its machine loses power."""
        self._host.run(["pkill", "-KILL", "-u", USER.name])
        if self._door is not None:
            self._door.wait()

    def create(self, name: str, *, template: str = "template0") -> str:
        """The address of a new database. Raises CommandError."""
        self._must([f"{PROGRAMS}/createdb", "-h", HOME, "-T", template, name])
        return f"postgresql+psycopg://{USER.name}@/{name}?host={quote(str(self._host.path(HOME)), safe='')}"

    def _run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        return self._host.run(words, user=USER.name)

    def _must(self, words: list[str]) -> None:
        done = self._run(words)
        if done.returncode != 0:
            raise CommandError(f"{words[0]}: {done.stderr.strip()}")
