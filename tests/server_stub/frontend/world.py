"""A pool and a factory, both doubles on real processes and sockets, and a frontend between them that is real."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from server_stub.frontend.configuration import Frontend, parse_frontend
from server_stub.frontend.daemon import Daemon
from server_stub.frontend.kept import State
from tests.server_stub.frontend.builders import record
from tests.server_stub.frontend.factory_double import FactoryDouble
from tests.server_stub.frontend.pool_double import PoolDouble

DOCUMENT: dict[str, Any] = {
    "name": "example-vo",
    "vo": {"name": "example"},
    "pool": {"collectors": ["cm.example.org:9618"], "most_seconds": 30},
    "cycle_seconds": 1,
    "frozen_cycles": 3,
}


class World:
    """A pool, a factory and a frontend between them. The clock is the test's."""

    def __init__(self, directory: Path, factory: FactoryDouble) -> None:
        self.directory = directory
        self.factory = factory
        self.pool = PoolDouble(directory / "pool")
        self.pool.slots()
        self.now = time.time()
        self.document = {**DOCUMENT, "factories": [{"name": "east", "url": factory.url, "most_seconds": 2}]}
        self.jobs(40)

    @property
    def frontend(self) -> Frontend:
        return parse_frontend(self.document, str(self.directory))

    def daemon(self, cycles: int | None, **options: Any) -> Daemon:
        return Daemon(self.frontend, most_cycles=cycles, python=self.pool.python, clock=lambda: self.now, **options)

    def jobs(self, count: int) -> None:
        self.pool.has("ap1", count, record(since=int(self.now) - 60))
        self.pool.has("ap2", 0)

    def cycle(self) -> dict[str, Any]:
        """One cycle of a process that begins and ends with it; what it told."""
        self.now += 60
        self.daemon(1).run()
        told = State(self.frontend.state).told()
        assert isinstance(told, dict)
        return told

    def asked(self) -> dict[str, int]:
        return {row["entry"]: row["queued"] for row in self.factory.known["requests"]}
