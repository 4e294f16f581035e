"""The keeper and the services: supervised, shown to jobs, and the end of the pilot when a required one is lost."""

from __future__ import annotations

from pilot_agent.lifecycle import final_report
from pilot_agent.lifecycle.draining import DRAINING
from pilot_agent.lifecycle.service_telling import ServiceTelling
from pilot_agent.services.causes import RETRIED, verdict
from pilot_agent.services.supervisor import Supervisor
from pilot_agent.services.variables import READY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pilot_agent.events import EventLog
    from pilot_agent.lifecycle.acceptance import Acceptance
    from pilot_agent.lifecycle.budget import Budget
    from pilot_agent.lifecycle.channel import AdChannel
    from pilot_agent.lifecycle.journal import Journal
    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.lifecycle.plan import KeeperPlan

SETTLE_SECONDS = 0.2
"""A service that ended may have got the same signal as this process, a moment earlier."""


class KeeperServices:
    """Supervises from ``begin`` until ``stop``; ``tell()`` at every change of a service's state."""

    __slots__ = ("_acceptance", "_end", "_events", "_loop", "_over", "_supervisor", "_tell", "_told")

    def __init__(
        self,
        plan: KeeperPlan,
        loop: Loop,
        channel: AdChannel,
        events: EventLog,
        journal: Journal,
        acceptance: Acceptance,
        *,
        end: Callable[[dict[str, Any]], None],
        over: Callable[[], bool],
        tell: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._events = events
        self._acceptance = acceptance
        self._end = end
        self._over = over
        self._tell = tell
        self._told = ServiceTelling(plan.service_variables, loop, channel, events)
        self._supervisor = Supervisor(
            plan.services, loop, events, journal, changed=self._changed, gave_up=self._gave_up
        )

    def begin(self) -> None:
        """Go on with what the service stage started."""
        self._supervisor.begin()

    def statuses(self) -> dict[str, str]:
        """Name -> status."""
        return self._supervisor.statuses()

    def ports(self) -> dict[str, dict[str, int]]:
        """The ports of the services that jobs can use now, by the services' names."""
        units = self._supervisor.units
        return {name: dict(unit.standing.ports) for name, unit in units.items() if unit.standing.status in READY}

    def stop(self, budget: Budget) -> None:
        """Stop all in the order of their needs, within the budget."""
        self._supervisor.stop(budget)

    def add_to_report(self, report: dict[str, Any]) -> None:
        """Write how they ran into the report."""
        states = self._supervisor.states()
        if states:
            report["services"] = states

    def _changed(self, name: str, status: str, ports: dict[str, int], attributes: dict[str, Any]) -> None:
        self._told.changed(name, status, ports, attributes)
        self._tell()

    def _gave_up(self, name: str, message: str, required: bool) -> None:
        if self._over():
            return
        told = f"the service {name} {message}"
        self._events.write("service.died", service=name, message=told, required=required)
        if required:
            self._loop.call_later(SETTLE_SECONDS, lambda: self._missed(name, told))

    def _missed(self, name: str, message: str) -> None:
        # SIGUSR1 to every process of the pilot drains it, and ends most services.
        if not self._over() and DRAINING not in self._acceptance.reasons:
            standing = self._supervisor.units[name].standing
            kind, code, hint = verdict(standing.cause, "service.died")
            hint, retry = hint.format(name=name), kind == RETRIED
            self._end(final_report.failure(kind, code, message, hint=hint, stage="run", retry=retry))
