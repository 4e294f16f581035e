"""The supervisor in the pipeline: all services are started, and waited for until each is ready or does not come."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Sequence

from pilot_agent.events import EventLog
from pilot_agent.lifecycle.journal import Journal
from pilot_agent.lifecycle.loop import Loop
from pilot_agent.pidfd import LOOK_SECONDS, Ending
from pilot_agent.process import Interrupted, WakeUp
from pilot_agent.services.plan import ServicePlan
from pilot_agent.services.supervisor import LOST, Supervisor


class _Alarm:
    """What a loop asks for signals, in a process that has its own ways to hear of them."""

    def __init__(self, wake: WakeUp | None) -> None:
        self._wake = wake
        self._pipe: tuple[int, ...] = () if wake is not None else os.pipe2(os.O_CLOEXEC)

    def fileno(self) -> int:
        return self._pipe[0] if self._wake is None else self._wake.fileno()

    def requests(self) -> set[int]:
        """None ever. Raises ``Interrupted`` when the pilot must stop."""
        if self._wake is not None and self._wake.must_end():
            raise Interrupted
        return set()

    def close(self) -> None:
        for descriptor in self._pipe:
            os.close(descriptor)


class StageLoop(Loop):
    """A loop that hears of the end of each child by itself, and leaves all other children alone."""

    __slots__ = ("_ends", "_epoll", "_own_alarm")

    def __init__(self, wake: WakeUp | None) -> None:
        self._own_alarm = _Alarm(wake)
        self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
        super().__init__(self._own_alarm)  # type: ignore[arg-type]  # whatever has these two methods will do
        self._ends: dict[int, Ending] = {}

    def fileno(self) -> int:
        """Readable when a turn would not wait, but for timers and for the wake-up itself."""
        return self._epoll.fileno()

    def watch(self, descriptor: int, action: Callable[[], None], events: int = select.POLLIN) -> None:
        """Run ``action`` whenever ``events`` (or an error, or the other side's end) is seen on ``descriptor``."""
        super().watch(descriptor, action, events)
        # The numbers of the events are those of poll(2).
        self._epoll.register(descriptor, events)

    def forget(self, descriptor: int) -> None:
        """Watch ``descriptor`` no longer."""
        if descriptor in self._readers:
            self._epoll.unregister(descriptor)
        super().forget(descriptor)

    def expect(self, pid: int, action: Callable[[int], None]) -> None:
        """Run ``action(wait status)`` when the child ``pid`` ends."""
        end = self._ends[pid] = Ending(pid)

        def look() -> None:
            if pid not in self._ends:
                return
            if end.came():
                self._forget_end(pid)
                action(os.waitpid(pid, 0)[1])
            elif not end.descriptors:
                self.call_later(LOOK_SECONDS, look)

        for descriptor in end.descriptors:
            self.watch(descriptor, look)
        if not end.descriptors:
            self.call_later(LOOK_SECONDS, look)

    def _forget_end(self, pid: int) -> None:
        end = self._ends.pop(pid)
        for descriptor in end.descriptors:
            self.forget(descriptor)
        end.close()

    def close(self) -> None:
        """Watch nothing any more; children stay as they are."""
        for pid in list(self._ends):
            self._forget_end(pid)
        self._own_alarm.close()
        self._epoll.close()


def start_all(plans: Sequence[ServicePlan], events: EventLog, journal: Journal | None, wake: WakeUp | None) -> None:
    """Start the services until each is ready or does not come, or a required one does not; how each stands is in its
    plan. Raises ``Interrupted``: what was started then still runs, known to the journal."""
    lost = [plan.name for plan in plans if plan.required and plan.standing.status in LOST]
    if lost:
        return

    def gave_up(name: str, message: str, required: bool) -> None:
        if required:
            lost.append(name)

    loop = StageLoop(wake)
    try:
        supervisor = Supervisor(plans, loop, events, journal, changed=_unheard, gave_up=gave_up, watches=False)
        supervisor.begin()
        # The keeper adopts what stands, and knows nothing of a start or an end that is under way.
        while supervisor.busy() or not (lost or supervisor.settled()):
            loop.turn()
    finally:
        loop.close()


def _unheard(name: str, status: str, ports: object, attributes: object) -> None:
    """Nobody advertises a service before the hand-off."""
