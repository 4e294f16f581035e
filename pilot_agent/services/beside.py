"""The services between their start and the hand-over: looked after while the pipeline waits for other things."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence

from pilot_agent.events import EventLog
from pilot_agent.lifecycle.journal import Journal
from pilot_agent.process import TOLD_TOO_SECONDS, Interrupted, WakeUp
from pilot_agent.services.plan import ServicePlan
from pilot_agent.services.stage import StageLoop
from pilot_agent.services.supervisor import LOST, Supervisor


class Beside:
    """A wake-up (``process.WakeUp``) that passes ``wake`` on, and turns the supervisor's loop whenever somebody waits
    with it: what the services do is seen, and answered, as under the keeper. Before ``start`` it does nothing more."""

    def __init__(self, wake: WakeUp) -> None:
        self.plans: tuple[ServicePlan, ...] = ()
        """The services that were started, as they stand."""
        self._wake = wake
        self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
        self._epoll.register(wake.fileno(), select.EPOLLIN)
        self._loop: StageLoop | None = None
        self._supervisor: Supervisor | None = None
        self._lost: list[ServicePlan] = []
        self._turning = False

    def start(self, plans: Sequence[ServicePlan], events: EventLog, journal: Journal | None) -> None:
        """Start the services until each is ready or does not come, or a required one does not, and look after them from
        then on. Raises ``Interrupted``: what was started then still runs, known to the journal."""
        self.plans = tuple(plans)
        if any(plan.required and plan.standing.status in LOST for plan in plans):
            return
        supervisor, loop = self.go_on(plans, events, journal)
        try:
            while not (self._lost or supervisor.settled()):
                loop.turn()
            self._require_not_told_too()
        except Interrupted:
            self._let_go()
            raise

    def go_on(
        self, plans: Sequence[ServicePlan], events: EventLog, journal: Journal | None
    ) -> tuple[Supervisor, StageLoop]:
        """Look after services as they stand."""
        self.plans = tuple(plans)
        loop = self._loop = StageLoop(self._wake)
        self._epoll.register(loop.fileno(), select.EPOLLIN)
        supervisor = self._supervisor = Supervisor(
            plans, loop, events, journal, changed=lambda *_: None, gave_up=self._gave_up
        )
        supervisor.begin()
        return supervisor, loop

    def lost(self) -> list[ServicePlan]:
        """The required services that were lost for good since the last call. Raises ``Interrupted``."""
        if self._loop is not None:
            self._loop.turn(0.0)
        self._require_not_told_too()
        taken, self._lost = self._lost, []
        return taken

    def leave(self) -> None:
        """Look after them no longer, as soon as another process can go on. Raises ``Interrupted``."""
        if self._supervisor is not None:
            self._supervisor.watches = False  # of many services one would always be asked
        while self._supervisor is not None and self._loop is not None and not self._supervisor.at_rest():
            self._loop.turn()
        self._let_go()

    def close(self) -> None:
        """Look after them no longer, whatever is under way; nobody can wait with it any more."""
        self._let_go()
        self._epoll.close()

    def _let_go(self) -> None:
        if self._loop is not None:
            self._epoll.unregister(self._loop.fileno())
            self._loop.close()
        self._loop = self._supervisor = None

    # What whoever waits asks

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._epoll.fileno()

    def due_seconds(self) -> float:
        """When it wants to be asked again, whatever comes."""
        return float("inf") if self._loop is None else self._loop.due_seconds()

    def must_end(self) -> bool:
        """Whether waiting must end; the services are attended to."""
        if self._wake.must_end():
            return True
        if self._loop is not None and not self._turning:
            self._turning = True
            try:
                self._loop.turn(0.0)
            except Interrupted:
                return True
            finally:
                self._turning = False
        return False

    def _require_not_told_too(self) -> None:
        """Raises ``Interrupted`` when what ended a service comes to this process as well: whoever signals all processes
        of a job does so one after the other."""
        end = time.monotonic() + TOLD_TOO_SECONDS
        while self._lost and self._loop is not None and (left := end - time.monotonic()) > 0:
            self._loop.turn(left)

    def _gave_up(self, name: str, message: str, required: bool) -> None:
        if required:
            self._lost += [plan for plan in self.plans if plan.name == name]
