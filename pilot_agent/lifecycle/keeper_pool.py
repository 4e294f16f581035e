"""The keeper and the pool: whether the startd came up, the pilot joined, and how far the clocks are apart."""

from __future__ import annotations

from pilot_agent.lifecycle import final_report
from pilot_agent.lifecycle.collector_clock import SKEW_SECONDS, CollectorClock
from pilot_agent.lifecycle.joining import JoinCheck

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pilot_agent.events import EventLog
    from pilot_agent.lifecycle.channel import AdChannel
    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.lifecycle.plan import JoinPlan


class KeeperPool:
    """Asks from its making on; ``tell()`` when the pilot joined, ``end(problem)`` when it did not."""

    __slots__ = ("_channel", "_end", "_events", "_loop", "_plan", "_tell", "clock_offset", "joined")

    def __init__(
        self,
        plan: JoinPlan,
        loop: Loop,
        channel: AdChannel,
        events: EventLog,
        tell: Callable[[], None],
        end: Callable[[dict[str, Any]], None],
    ) -> None:
        self._plan = plan
        self._loop = loop
        self._channel = channel
        self._events = events
        self._tell = tell
        self._end = end
        self.joined = False
        self.clock_offset: int | None = None
        """Seconds by which the node is ahead of the collector; None while that is not known."""
        JoinCheck(plan, loop, self._joined, end)
        loop.call_later(plan.seconds, self._expect_startd)

    def _joined(self) -> None:
        self.joined = True
        self._events.write("pool.joined")
        self._tell()
        CollectorClock(self._plan, self._loop, self._compare_clocks)

    def _compare_clocks(self, offset: int) -> None:
        """Whatever it is the pilot goes on: its pool took it."""
        self.clock_offset = offset
        self._events.write("clock.compared", offset_seconds=offset, skew=abs(offset) > SKEW_SECONDS)

    def _expect_startd(self) -> None:
        """A startd that cannot start is started again by its master for ever; nobody would notice."""
        if not self._channel.ever_read:
            message = "the startd did not come up: it never asked for the pilot's attributes"
            hint = "its log is logs/StartLog in the output directory"
            self._end(final_report.failure("internal", "condor.startd_missing", message, hint=hint, stage="handoff"))
