"""What jobs are told of the services while the pilot runs: attributes of the machine ad, and variables of the jobs that
begin from now on."""

from __future__ import annotations

from pilot_agent.services.variables import READY, place_attributes, ready_attributes, told_variables
from pilot_agent.startd.classad import LiteralError
from pilot_agent.startd.service_environment import write_service_environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pilot_agent.events import EventLog
    from pilot_agent.lifecycle.channel import AdChannel
    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.lifecycle.plan import ServiceVariablesPlan

READY_SERVICES_ATTRIBUTE = "PilotReadyServices"
"""Names of the services that are ready, separated by commas. START compares with it what a job says it needs."""
OVER = ("failed", "stopped")
"""The states from which a service does not come back: its variables are taken away."""
RETRY_SECONDS = 5.0


class ServiceTelling:
    """Keeps the machine ad and the environment of jobs as the services are; ``changed`` is told of every change."""

    __slots__ = ("_channel", "_due", "_events", "_failing", "_given", "_loop", "_plan", "_ports", "_ready", "_written")

    def __init__(self, plan: ServiceVariablesPlan, loop: Loop, channel: AdChannel, events: EventLog) -> None:
        self._plan = plan
        self._loop = loop
        self._channel = channel
        self._events = events
        self._ready: list[str] = []
        self._given: dict[str, list[str]] = {}
        """Service -> the attributes that it has in the ad."""
        self._ports: dict[str, dict[str, int]] = {}
        """The services of which jobs know: those that were ready once. While one is started again it keeps its ports,
        and a job that begins meanwhile finds it soon."""
        self._written: dict[str, str] | None = None
        self._due = self._failing = False

    def changed(self, name: str, status: str, ports: Mapping[str, int], attributes: Mapping[str, Any]) -> None:
        """A service is in this state now; ``attributes`` with their places filled."""
        ready = status in READY
        wanted = {**attributes, **place_attributes(name, ports)} if ready else {}
        gone = dict.fromkeys(key for key in self._given.pop(name, ()) if key not in wanted)
        self._given[name] = list(wanted)
        if ready and name not in self._ready:
            self._ready.append(name)
        elif not ready and name in self._ready:
            self._ready.remove(name)
        told = {READY_SERVICES_ATTRIBUTE: ",".join(self._ready) or None}
        self._channel.update({**gone, **wanted, **dict.fromkeys(ready_attributes(name), ready), **told})
        if status in OVER:
            self._ports.pop(name, None)
        elif ready or name in self._ports:
            self._ports[name] = dict(ports)
        self._write_soon(0)

    def _write_soon(self, seconds: float) -> None:
        if not self._due and self._plan.variables:
            self._due = True
            self._loop.call_later(seconds, self._write)

    def _write(self) -> None:
        self._due = False
        variables = told_variables(self._plan.variables, self._ports)
        if variables == self._written:
            return
        try:
            write_service_environment(self._plan.directory, variables)
        except (LiteralError, OSError) as error:  # until it is written jobs begin with the old ports
            if not self._failing:
                self._events.write("service.variables_not_written", message=str(error))
            self._failing = True
            self._write_soon(RETRY_SECONDS)
            return
        self._written, self._failing = variables, False
