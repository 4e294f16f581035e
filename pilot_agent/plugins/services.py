"""Services: the programs that the configuration's ``services`` names run beside the jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from pilot_agent.containers.restrictions import of_layers
from pilot_agent.containers.surroundings import judge_variables
from pilot_agent.hookspecs import Service, hookimpl
from pilot_agent.model import JobSurroundings, Json, VariableVerdict
from pilot_agent.service_entry import generic_service
from pilot_agent.services.beside import Beside
from pilot_agent.services.causes import RETRIED, verdict
from pilot_agent.services.plan import MARKER_PLACE, MARKER_VARIABLE, ServicePlan
from pilot_agent.services.stage import start_all
from pilot_agent.services.supervisor import LOST, stop_all
from pilot_agent.services.taken import share_out, with_devices
from pilot_agent.services.variables import place_attributes, ready_attributes, variables

__all__ = [
    "LOST",
    "MARKER_PLACE",
    "MARKER_VARIABLE",
    "RETRIED",
    "Beside",
    "ServicePlan",
    "pilot_services",
    "share_out",
    "start_all",
    "stop_all",
    "verdict",
    "with_devices",
]


@hookimpl
def pilot_services(config: Mapping[str, Json]) -> Iterable[Service]:
    """One service for each entry of ``services``."""
    for name, entry in config["services"].items():
        yield generic_service(name, entry)


def settle_variables(
    surroundings: JobSurroundings, services: Sequence[Service], config: Mapping[str, Json]
) -> JobSurroundings:
    """What jobs get, with the variables of the services that may come to be ready. Where something else has a value for
    a name too, jobs get that one as long as the service was never ready, or is given up."""
    owners = {f"service {service.name}": service.name for service in services}
    asked = [
        (f"service {service.name}", name, value)
        for service in services
        for name, value in variables(service.name, service.ports, service.exports).items()
    ]
    if not asked:
        return surroundings
    judged = judge_variables(asked, of_layers(config["startd"]["allowed_environment"]))
    found = [replace(one, of_service=owners[one.asked_by]) for one in judged]
    later = {one.name: one.of_service for one in found if one.given}
    others = [_beside(one, later.get(one.name)) for one in surroundings.environment if not one.of_service]
    return replace(surroundings, environment=(*others, *found))


def _beside(variable: VariableVerdict, service: str | None) -> VariableVerdict:
    if service is None or not variable.given:
        return variable
    return replace(variable, reason=f"the service {service} gives it another value while it is up")


def wanted_variables(surroundings: JobSurroundings) -> dict[str, dict[str, str]]:
    """Service -> the variables that jobs may get of it, with places for its ports."""
    found: dict[str, dict[str, str]] = {}
    for one in surroundings.environment:
        if one.given and one.of_service:
            found.setdefault(one.of_service, {})[one.name] = one.value
    return found


def sent_attributes(services: Sequence[Service]) -> dict[str, str]:
    """The attributes by which the machine ad says where services are and whether they are ready, with the service."""
    return {
        name: service.name
        for service in services
        for name in (*ready_attributes(service.name), *place_attributes(service.name, service.ports))
    }
