"""One time budget for a whole teardown, from which every step takes its limit."""

from __future__ import annotations

import time


class Budget:
    """Seconds that run from its making."""

    __slots__ = ("_end",)

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that remain, never negative."""
        return max(0.0, self._end - time.monotonic())

    def at_most(self, seconds: float) -> float:
        """``seconds``, or less when less is left."""
        return min(seconds, self.left())
