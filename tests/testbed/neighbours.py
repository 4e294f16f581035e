"""Tests that share a grid leave its worker nodes as they found them; this tells which one did not."""

from __future__ import annotations

import time

import pytest

from tests.testbed.grid import Grid
from tests.testbed.leftovers import traces

PATIENCE_SECONDS = 10.0
POLL_SECONDS = 0.2


class Watch:
    """What is on the worker nodes of a grid, looked at after each test, so that what a module leaves has a name."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._at_first = self._look()
        self._seen: dict[str, str] = {}
        self._told: dict[str, str] = {}
        self.last: pytest.Item | None = None
        """The test that ended last."""

    def look_after(self, test: pytest.Item) -> None:
        """Remember with which test something came; its module may still need it."""
        now = self._look()
        self._seen = {trace: self._seen.get(trace, test.name) for trace in now - self._at_first}
        self.last = test

    def left_by(self, module: str, patience_seconds: float = PATIENCE_SECONDS) -> list[str]:
        """What is there at the end of a module and was not there before it, each with the test it came with.

        What is on its way out gets time. What was told of one module is not told of those after it, but again when
        the same module is tried again.
        """
        until = time.monotonic() + patience_seconds
        while (left := self._new(module)) and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
        self._told.update(dict.fromkeys(left, module))
        return [f"{trace} (came with {self._seen.get(trace, module)})" for trace in sorted(left)]

    def _new(self, module: str) -> frozenset[str]:
        known = {trace for trace, teller in self._told.items() if teller != module}
        return self._look() - self._at_first - known

    def _look(self) -> frozenset[str]:
        return frozenset(f"{host.plan.name}: {trace}" for host in self._grid.workers for trace in traces(host))
