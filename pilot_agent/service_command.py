"""A declared service as the supervisor runs it: on the node, or inside an image as a job in it would be run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pilot_agent.hookspecs import Liveness, Readiness, Service
from pilot_agent.model import PilotError
from pilot_agent.plugins import services
from pilot_agent.plugins.containers import script_inside
from pilot_agent.plugins.services import MARKER_PLACE, MARKER_VARIABLE, ServicePlan
from pilot_agent.programs import filled
from pilot_agent.tasks import INSIDE, PLACE, interior_of, no_room

if TYPE_CHECKING:
    from pilot_agent.stages import Session
    from pilot_agent.state import State

READY_SECONDS = 60.0
IMAGE_READY_SECONDS = 600.0
"""How long a service may take to be ready inside an image, which may first have to come."""
_SAME = (
    *(
        "name",
        "ports",
        "attributes",
        "exports",
        "required",
        "needs",
        "per",
        "restart",
        "restart_limit",
        "memory_mib",
        "disk_mib",
    ),
    *("restart_window_seconds", "backoff_seconds", "backoff_limit_seconds", "log_mib", "stop_signal", "stop_seconds"),
)
"""The fields that a service and its plan have in common."""


def service_plan(session: Session, state: State, service: Service, after: Sequence[str]) -> ServicePlan:
    """How the supervisor runs the service, with the command line of its container when it runs in one, after those
    named in ``after``.

    ``{workspace}`` stays in what the node reads and becomes /srv in what the service reads. Raises ``PilotError`` where
    there is no image to run it in, and for one that does not fit beside the jobs.
    """
    service = with_files(session, state, services.with_devices(service, state.shares))
    ready, live, metrics = service.readiness, service.liveness or Liveness(), service.metrics
    directory = os.path.join(session.workspace.services, service.name)
    commands = [service.command, ready.command, live.command]
    try:
        words, environment, image = _service_words(session, state, service, directory, commands)
    except OSError as error:
        raise PilotError(no_room(service.name, error)) from error
    ready_way, ready_of = _way(ready)
    live_way, live_of = _way(live) if service.liveness is not None else ("", "")
    default = IMAGE_READY_SECONDS if service.where == "image" else READY_SECONDS
    same = {name: getattr(service, name) for name in _SAME}
    return ServicePlan(
        argv=words[0],
        environment=environment,
        directory=directory,
        image=image,
        devices=next((share.devices for share in state.shares if share.name == service.name), ()),
        after=tuple(after),
        ready_way=ready_way,
        ready_of=ready_of,
        ready_argv=words[1],
        ready_seconds=default if ready.timeout_seconds is None else ready.timeout_seconds,
        live_way="" if live_way == "alive" else live_way,
        live_of=live_of,
        live_argv=words[2],
        live_period_seconds=live.period_seconds,
        live_timeout_seconds=live.timeout_seconds,
        live_failures=live.failures,
        metrics_http=metrics.http if metrics else "",
        metrics_names=metrics.names if metrics else (),
        metrics_period_seconds=metrics.period_seconds if metrics else 60.0,
        **same,
    )


def with_files(session: Session, state: State, service: Service) -> Service:
    """The service with the directories of its signed files in their places, once they are there. Raises ``PilotError``
    where they cannot be had and believed; ``Interrupted``."""
    if not service.files:
        return service
    from pilot_agent.trust.bundle import Trust
    from pilot_agent.trust.signed_files import fetch_files

    default = IMAGE_READY_SECONDS if service.where == "image" else READY_SECONDS
    seconds = default if service.readiness.timeout_seconds is None else service.readiness.timeout_seconds
    places = {
        f"{{files:{name}}}": fetch_files(
            archive,
            Trust.of(state.config.values),
            directory=os.path.join(session.workspace.artifacts, "files"),
            scratch=session.workspace.artifacts,
            environment=state.environment,
            seconds=seconds,
            wake=session.around.wake,
        )
        for name, archive in service.files.items()
    }

    def placed(text: str) -> str:
        for place, directory in places.items():
            text = text.replace(place, directory)
        return text

    return replace(
        service,
        command=tuple(map(placed, service.command)),
        environment={name: placed(value) for name, value in service.environment.items()},
        binds=tuple(map(placed, service.binds)),
    )


def _way(asked: Readiness | Liveness) -> tuple[str, str]:
    """The way in which a service is asked, and what is looked for."""
    if asked.command:
        return "command", ""
    for way in ("port", "http", "log", "file"):
        of = getattr(asked, way, None)
        if of is not None:
            return way, str(of)
    return "alive", ""


def _service_words(
    session: Session, state: State, service: Service, directory: str, commands: Sequence[Sequence[str]]
) -> tuple[list[list[str]], dict[str, str], str]:
    """The command lines as the node starts them (empty for one that is empty), their environment, and the image's path.
    Raises ``PilotError`` and ``OSError``."""
    if service.where == "host":
        environment = {**session.around.environment, **service.environment}
        return [list(filled(words, service.script)) for words in commands], environment, ""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    variables = {name: value.replace(PLACE, INSIDE) for name, value in service.environment.items()}
    variables[MARKER_VARIABLE] = MARKER_PLACE
    interior = interior_of(session, state, service.platform)
    if service.binds:
        interior = interior.with_binds(service.binds)
    script = script_inside(service.script) if service.script else None
    contained: list[list[str]] = []
    environment = {}
    for words in commands:
        told = [word.replace(PLACE, INSIDE) for word in filled(words, script)]
        argv: list[str] = []
        if told:
            argv, environment = interior.command(told, directory, script=service.script, variables=variables)
        contained.append(argv)
    return contained, environment, interior.image
