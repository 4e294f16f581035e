"""The keeper's eye on the clocks: no job begins after one moment, jobs are ended at another, whatever a clock does.

A moment has come when either the wall clock shows it, or so much time has passed since the watch began as lay before
it then, suspensions included (CLOCK_BOOTTIME, clock_gettime(2)): a clock that is set back does not prolong a pilot's
life, and one that is set forward is believed, as nobody can tell which of the two was wrong.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.lifecycle.plan import TimePlan

ANNOUNCED_ATTRIBUTE = "PilotShutdownTime"
"""Seconds since 1970: an end that the site announced while the pilot ran; in the ad, and kept by the keeper."""
PERIOD_SECONDS = 10.0
"""How often the clocks are compared."""
RETIRED_PERIOD_SECONDS = 5.0
"""How often a pilot that takes no more jobs looks whether any are left."""
RETIREMENT_SECONDS = 60.0
"""How long before an announced end no job begins, where none was known before."""
JUMP_SECONDS = 2.0
"""A difference that is told."""


def read_clocks() -> tuple[float, float, float]:
    """The wall clock, the time since boot with suspensions and without them, seconds."""
    return time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), time.monotonic()


class TimeWatch:
    """Calls ``retire`` once when no job may begin any more, ``idle`` from then on when no job runs (``busy`` says
    whether one does), and ``end`` once when the last are ended; ``note`` is told of clocks that jump and of a machine
    that slept, as an event's name and values."""

    __slots__ = ("_busy", "_end", "_idle", "_last", "_loop", "_next", "_note", "_over", "_plan", "_read", "_retire",
                 "_retirement", "_start", "_was_idle", "retired")  # fmt: skip

    def __init__(
        self,
        plan: TimePlan,
        loop: Loop,
        *,
        retire: Callable[[], None],
        busy: Callable[[], bool],
        idle: Callable[[], None],
        end: Callable[[], None],
        note: Callable[..., None],
        read: Callable[[], tuple[float, float, float]] = read_clocks,
    ) -> None:
        self._plan = plan
        self._loop = loop
        self._retire, self._busy, self._idle, self._end, self._note = retire, busy, idle, end, note
        self._read = read
        self.retired = self._was_idle = self._over = False
        self._start = self._last = read()
        self._next = 0
        both = plan.deadline is not None and plan.retire is not None
        self._retirement = (plan.deadline or 0) - (plan.retire or 0) if both else RETIREMENT_SECONDS
        self.look()

    def stop(self) -> None:
        """Watch no longer."""
        self._over = True

    def announce(self, moment: float) -> bool:
        """Everything must be gone before ``moment`` too; true when the pilot's own moments come earlier for it. They
        never become later again."""
        plan = self._plan
        earlier = moment - plan.margin_seconds - plan.budget_seconds
        plan.other_deadline = earlier if plan.other_deadline is None else min(plan.other_deadline, earlier)
        if self._over or (plan.deadline is not None and earlier >= plan.deadline):
            return False
        retire = earlier - self._retirement
        self._set(earlier, retire if plan.retire is None else min(plan.retire, retire))
        self._look_in(0)
        return True

    def renew(self, expires: float | None) -> bool:
        """The pool's token expires then, or never; true when the pilot's moments move for it, later ones too: then jobs
        may begin again unless ``retired``."""
        plan = self._plan
        if self._over or plan.token_lead_seconds is None:
            return False
        ends = [plan.other_deadline] if plan.other_deadline is not None else []
        ends += [expires - plan.token_lead_seconds] if expires is not None else []
        deadline = min(ends, default=None)
        if deadline == plan.deadline or (deadline and plan.deadline and abs(deadline - plan.deadline) < 1):
            return False
        self._set(deadline, None if deadline is None else deadline - self._retirement)
        left = self.left(plan.retire)
        if left is None or left > 0:
            self.retired = self._was_idle = False
        return True

    def _set(self, deadline: float | None, retire: float | None) -> None:
        plan = self._plan
        plan.deadline, plan.retire = deadline, retire
        plan.leaves = None if deadline is None else deadline + plan.budget_seconds

    def left(self, moment: float | None) -> float | None:
        """Seconds until ``moment`` by the clock that shows it first; None without one."""
        if moment is None:
            return None
        wall, since_boot, _ = self._last
        return min(moment - wall, moment - self._start[0] - (since_boot - self._start[1]))

    def look(self) -> None:
        """Compare the clocks with the moments, and look again in time."""
        if self._over:
            return
        now = self._read()
        self._compare(now)
        self._last = now
        to_end, to_retire = self.left(self._plan.deadline), self.left(self._plan.retire)
        if to_end is not None and to_end <= 0:
            self.stop()
            self._end()
            return
        if to_retire is not None and to_retire <= 0 and self._looked_for_jobs():
            return
        soonest = [left for left in (to_end, to_retire) if left is not None and left > 0]
        wait = min([RETIRED_PERIOD_SECONDS if self.retired else PERIOD_SECONDS, *soonest])
        self._look_in(wait)

    def _look_in(self, seconds: float) -> None:
        """Look next after so long, and not when it was planned before: each look plans one."""
        self._next += 1
        planned = self._next
        self._loop.call_later(seconds, lambda: self.look() if planned == self._next else None)

    def _looked_for_jobs(self) -> bool:
        """True when the pilot takes no more jobs and has none left: twice in a row, as a job that was just taken is
        not to be seen yet."""
        if not self.retired:
            self.retired = True
            self._retire()
            return False
        idle = not self._busy()
        if idle and self._was_idle:
            self.stop()
            self._idle()
            return True
        self._was_idle = idle
        return False

    def _compare(self, now: tuple[float, float, float]) -> None:
        wall, since_boot, awake = (new - old for new, old in zip(now, self._last, strict=True))
        if abs(wall - since_boot) > JUMP_SECONDS:
            self._note("clock.jumped", seconds=round(wall - since_boot, 1))
        if since_boot - awake > JUMP_SECONDS:
            self._note("machine.slept", seconds=round(since_boot - awake, 1))
