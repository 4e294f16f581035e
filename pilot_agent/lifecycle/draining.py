"""Draining: no further job begins, the running ones end in their own time, and then the pilot is told."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot_agent.lifecycle.loop import Loop

DRAINING = "draining"
"""Why no job is taken."""
LOOK_SECONDS = 1.0
SETTLE_SECONDS = 4.0
"""By then the startd has heard that it takes no more jobs, and what it began before shows as a starter."""
QUIET_LOOKS = 2
"""A starter has another program's name while it begins, so one look may miss it."""


class Drain:
    """From its making on; ``drained()`` is called once, when no job runs any more."""

    __slots__ = ("_busy", "_drained", "_loop", "_over", "_quiet", "_since")

    def __init__(self, loop: Loop, busy: Callable[[], bool], over: Callable[[], bool], drained: Callable[[], None]):
        """``busy()`` tells whether jobs run, ``over()`` whether the pilot ends anyway."""
        self._loop = loop
        self._busy = busy
        self._over = over
        self._drained = drained
        self._quiet = 0
        self._since = time.monotonic()
        self._look()

    def _look(self) -> None:
        if self._over():
            return
        self._quiet = 0 if self._busy() else self._quiet + 1
        if self._quiet >= QUIET_LOOKS and time.monotonic() - self._since >= SETTLE_SECONDS:
            self._drained()
        else:
            self._loop.call_later(LOOK_SECONDS, self._look)
