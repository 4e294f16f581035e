"""The service stage, and what the later stages hear of the services that it started."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pilot_agent.codec import from_json
from pilot_agent.collect import Declared
from pilot_agent.hookspecs import Service
from pilot_agent.model import Failure, FailureKind, PilotError, ServiceState, TimelineEntry
from pilot_agent.ordering import in_order
from pilot_agent.plugins import services
from pilot_agent.service_command import service_plan

if TYPE_CHECKING:
    from pilot_agent.stages import Session
    from pilot_agent.state import State


def start_services(session: Session, state: State) -> State:
    """Start the services in order of their needs, at once where they have none, and wait until each is ready."""
    declared = in_order(session.loaded.of("pilot_services"))
    began, ticks = session.events.seconds(), time.monotonic()
    refused: dict[str, Failure] = {}
    plans = [_service_plan(session, state, one, declared, refused) for one in declared]
    if session.beside is not None:
        session.beside.start(plans, session.events, session.journal)
        session.beside.lost()  # told here in full
    else:
        services.start_all(plans, session.events, session.journal, session.around.wake)
    entries: list[TimelineEntry] = []
    failures: list[Failure] = []
    for one, plan in zip(declared, plans, strict=True):
        standing, name = plan.standing, plan.name
        start = max(0.0, standing.started - ticks) if standing.started else 0.0
        seconds = standing.ready_after_seconds or max(0.0, time.monotonic() - ticks - start)
        entries.append(TimelineEntry("service", one.plugin, name, began + start, seconds, standing.status))
        if standing.status in services.LOST and plan.required:
            message = f"the required service {name} did not become ready: {standing.message}"
            reason = next((refused[other] for other in (name, *plan.needs) if other in refused), None)
            failures.append(_failure(plan, message, "service.failed", reason, one.plugin))
    return replace(
        as_they_stand(state, plans),
        timeline=(*state.timeline, *entries),
        failures=(*state.failures, *failures[:1]),
    )


def as_they_stand(state: State, plans: Sequence[services.ServicePlan]) -> State:
    """The state with the services as they are now."""
    return replace(
        state,
        services=tuple(from_json(ServiceState, plan.state()) for plan in plans),
        service_plans=[plan.to_json() for plan in plans],
    )


def attended(session: Session, state: State, stage: str) -> State:
    """The state with what became of the services while ``stage`` ran: one that is required and lost ends the pilot.
    Raises ``Interrupted``."""
    if session.beside is None or not session.beside.plans or stage == "service":
        return state
    failures = []
    for plan in session.beside.lost():
        message = f"the service {plan.name} {plan.standing.message}"
        session.events.write("service.died", service=plan.name, message=message, required=True)
        failures.append(replace(_failure(plan, message, "service.died"), stage=stage))
    return replace(as_they_stand(state, session.beside.plans), failures=(*state.failures, *failures))


def handed_over(session: Session, state: State) -> State:
    """As ``attended``, for the process that goes on; from here on nobody looks after the services until it does.
    Raises ``Interrupted``."""
    if session.beside is None:
        return state
    session.beside.leave()
    return attended(session, state, "handoff")


def kept(session: Session, state: State) -> list[Service]:
    """What was declared of the services that may still be ready, now or later."""
    lost = {service.name for service in state.services if service.status in services.LOST}
    records = [declared.record for declared in in_order(session.loaded.of("pilot_services"))]
    return [record for record in records if record.name not in lost]


def _failure(
    plan: services.ServicePlan, message: str, code: str, refused: Failure | None = None, plugin: str = ""
) -> Failure:
    """Why a required service is lost: as it was refused, or by the cause of its end."""
    if refused is not None:
        return replace(refused, message=message, plugin=plugin, stage="service")
    kind, code, hint = services.verdict(plan.standing.cause, code)
    retry = kind == services.RETRIED
    return Failure(FailureKind(kind), code, message, hint.format(name=plan.name), "service", plugin, retry)


def _service_plan(
    session: Session, state: State, declared: Declared, everything: Sequence[Declared], refused: dict[str, Failure]
) -> services.ServicePlan:
    """A service's plan; one that cannot be run here has failed already, and why is in ``refused``."""
    record: Service = declared.record
    earlier = [one.record.name for one in everything if record.name in one.record.before]
    after = [name for name in (*record.after, *earlier) if name != record.name]
    try:
        return service_plan(session, state, record, after)
    except PilotError as error:
        refused[record.name] = error.failure
        failed = {"status": "failed", "message": f"{error.failure.message}; {error.failure.hint}"}
        return services.ServicePlan(name=record.name, required=record.required, standing=failed)
