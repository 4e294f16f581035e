"""Have the startd report its slots to the collector now, so that the pool does not match by an ad that is minutes old.

A startd reports every few minutes and when a slot's state changes. That an attribute of a cron job changed is no
reason for it: ``update:true`` sends the daemon's ad and the slots that are due anyway, STARTD_CRON_AUTOPUBLISH the same
(seen with HTCondor 23.9). When it reads its configuration again, on SIGHUP, it reports every slot; claims, running jobs
and the patience of STARTD_NOCLAIM_SHUTDOWN go on.
"""

from __future__ import annotations

import os
import time

from pilot_agent.light import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pilot_agent.lifecycle.loop import Loop

AFTER_SECONDS = 1.0
"""What was written to the ad channel passes through a program before the startd has it."""
STATE_GAP_SECONDS = 5.0
"""At least between two reports because of what decides about jobs: they are in the collector within 10 s."""
VALUE_GAP_SECONDS = 60.0
"""At least between two reports because of values of periodic tasks, which may change with every run."""

FIRST_VALUES_SECONDS = 10.0
"""Values are reported for the first time so long after the beginning, or later."""


class StartdReport:
    """Asks the startd, found by ``find()`` (its pids), at most once in a while; nothing is asked when none is there."""

    __slots__ = ("_due", "_find", "_last", "_loop")

    def __init__(self, loop: Loop, find: Callable[[], Sequence[int]]) -> None:
        self._loop = loop
        self._find = find
        # The first answers of periodic tasks come a little later than the startd's own first report.
        self._last = time.monotonic() - VALUE_GAP_SECONDS + FIRST_VALUES_SECONDS
        self._due = 0.0

    def ask(self, *, state: bool) -> None:
        """Something changed that was just sent to the startd: a ``state`` that decides about jobs, or only a value."""
        now = time.monotonic()
        moment = max(now + AFTER_SECONDS, self._last + (STATE_GAP_SECONDS if state else VALUE_GAP_SECONDS))
        if not self._due or moment < self._due:
            self._due = moment
            self._loop.call_later(moment - now, self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        if not self._due or now < self._due:
            return  # an earlier one has done it
        self._due = 0.0
        self._last = now
        for pid in self._find():
            try:
                os.kill(pid, signal.SIGHUP)
            except OSError:  # gone meanwhile; the next one reports everything when it begins
                continue
