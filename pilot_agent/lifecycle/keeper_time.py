"""The keeper and time: what it does when no job may begin any more, when jobs must end, and when a clock jumps."""

from __future__ import annotations

from pilot_agent.lifecycle import final_report
from pilot_agent.lifecycle.timewatch import ANNOUNCED_ATTRIBUTE, TimeWatch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pilot_agent.events import EventLog
    from pilot_agent.lifecycle.acceptance import Acceptance
    from pilot_agent.lifecycle.channel import AdChannel
    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.lifecycle.plan import TimePlan

TO_RETIRE, TO_DIE = "GLIDEIN_ToRetire", "GLIDEIN_ToDie"
LATEST = 1e11
"""No moment that anybody means lies after this."""
RETIRING = "time is over"
"""Why no job begins any more."""


class KeeperTime:
    """Follows the plan's moments, which the site or another token may change, until ``over()``.

    ``busy()`` says whether jobs run; ``leave()`` ends a pilot that has none left, ``end(problem)`` one whose jobs are
    cut short; ``changed()`` when there are other moments.
    """

    __slots__ = (
        "_acceptance",
        "_busy",
        "_changed",
        "_channel",
        "_end",
        "_events",
        "_leave",
        "_over",
        "_plan",
        "_watch",
    )

    def __init__(
        self,
        plan: TimePlan,
        loop: Loop,
        channel: AdChannel,
        events: EventLog,
        acceptance: Acceptance,
        *,
        busy: Callable[[], bool],
        leave: Callable[[], None],
        end: Callable[[dict[str, Any]], None],
        over: Callable[[], bool],
        changed: Callable[[], None],
    ) -> None:
        self._plan = plan
        self._channel = channel
        self._events = events
        self._acceptance = acceptance
        self._busy, self._leave, self._end, self._over, self._changed = busy, leave, end, over, changed
        self._watch = TimeWatch(
            plan, loop, retire=self._retire, busy=busy, idle=self._retired, end=self._time_is_over, note=self._note
        )

    def hear(self, attributes: Mapping[str, Any]) -> None:
        """A periodic task answered: the site may announce an end that comes before all that were known."""
        moment: Any = attributes.get(ANNOUNCED_ATTRIBUTE)
        if type(moment) in (int, float) and 0 < moment < LATEST and self._watch.announce(moment):
            self._tell("time.shortened", moment)
            self._changed()

    def renew(self, expires: float | None) -> None:
        """Another token was installed; the pilot may live as long as that one allows."""
        if self._watch.renew(expires):
            self._tell("time.renewed", expires)
            if not self._watch.retired:
                self._acceptance.accept(RETIRING)

    def _tell(self, event: str, end: float | None) -> None:
        to_retire, to_die = (
            None if moment is None else int(moment) for moment in (self._plan.retire, self._plan.deadline)
        )
        self._events.write(event, end=end, to_retire=to_retire, to_die=to_die)
        self._channel.update({TO_RETIRE: to_retire, TO_DIE: to_die})

    def _note(self, event: str, **data: object) -> None:
        """A clock jumped or the node slept: the time in the ad may look old, and START closes and daemons end by it."""
        self._events.write(event, **data)
        self._channel.renew()

    def _retire(self) -> None:
        if not self._over():
            self._events.write("pilot.retiring")
            self._acceptance.refuse(RETIRING)

    def _retired(self) -> None:
        if not self._over():
            self._events.write("pilot.retired")
            self._leave()

    def _time_is_over(self) -> None:
        if self._over():
            return
        if self._busy():
            message = "the pilot's time was over while jobs were running"
            self._end(final_report.failure("preempted", "deadline.reached", message, retry=True))
        else:
            self._events.write("deadline.reached")
            self._leave()
