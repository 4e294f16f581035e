"""Declared programs as commands: on the node, or inside an image as a job in it would be run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pilot_agent import host
from pilot_agent.codec import to_json
from pilot_agent.collect import Declared
from pilot_agent.files import write_json
from pilot_agent.hookspecs import Benchmark, ContainerRequest, Liveness, Periodic, Readiness, Service, Setup
from pilot_agent.lifecycle.inherited import OwnTeardown, Prepared, Teardowns
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.plugins import services
from pilot_agent.plugins.containers import Interior, JobContainer, never_ran, script_inside
from pilot_agent.plugins.services import MARKER_PLACE, MARKER_VARIABLE, ServicePlan
from pilot_agent.process import Result
from pilot_agent.programs import SCRIPT, filled, is_program, is_text

if TYPE_CHECKING:
    from pilot_agent.lifecycle.journal import Journal
    from pilot_agent.stages import Session
    from pilot_agent.state import State

CONTEXT_VARIABLE = "PILOT_CONTEXT"
CONTEXT_FILE = ".pilot/context.json"
REQUEST_FILE = ".pilot/request.json"
ID_VARIABLE = "PILOT_ID"
TEXT_DIRECTORY = ".pilot/plugin"
"""Where the script lies that was given as a text, below the directory of its program."""
INSIDE = "/srv"
PLACE = "{workspace}"
READY_SECONDS = 60.0
IMAGE_READY_SECONDS = 600.0
"""How long a service may take to be ready inside an image, which may first have to come."""
Words = tuple[list[str], dict[str, str]]
"""A command line, and the environment in which it is started."""


def container_requests(session: Session, state: State) -> list[ContainerRequest]:
    """What setups and plugins want of jobs' containers, each under the name that the report gives who asked."""
    asked = [
        replace(declared.record, name=f"plugin {declared.plugin} ({declared.record.name})")
        for declared in session.loaded.of("pilot_containers")
    ]
    return [*state.contributed, *asked]


def job_container(state: State) -> JobContainer:
    """What every job's container gets, as far as the stages have come: nothing before jobs' containers are decided."""
    return JobContainer.of(state.container.surroundings) if state.container is not None else JobContainer()


def command_of(session: Session, state: State) -> Callable[[Declared], host.Command | Failure]:
    """How a declared program is run: each in a directory of its own, with the context as a file."""

    def prepared(declared: Declared) -> host.Command | Failure:
        record = declared.record
        directory = ""
        try:
            directory = _directory_of(session, record, record.name)
            told = _write_context(session, state, directory)
            argv, environment = _words(session, state, record, record.command, directory)
        except PilotError as error:
            _clear(record, directory)
            return error.failure
        except OSError as error:
            _clear(record, directory)
            return _no_room(record.name, error)
        inside = getattr(record, "where", "host") == "image"
        explain, program = (never_ran, _inside_name(record)) if inside else (_ran, "")
        given = None
        if getattr(record, "protocol", "") == "json":
            given = json.dumps({**told, "task": record.name}).encode()
        return host.Command(argv, environment, directory, explain, lambda: _clear(record, directory), given, program)

    return prepared


def _inside_name(record: Any) -> str:
    """A program inside an image as people know it: not the runtime, with which its command line begins."""
    name = record.command[0]
    if name == SCRIPT:
        name = "its script" if is_text(record.script) else os.path.basename(record.script)
    return f"{name} inside the image"


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
        raise PilotError(_no_room(service.name, error)) from error
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
    interior = _interior(session, state, service.platform)
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


def benchmark_command(
    session: Session, state: State, declared: Declared
) -> tuple[str, list[str], dict[str, str], str | None]:
    """A directory for a benchmark, the command line that runs it there (none for a function of the payload), its
    environment, and the image it runs in.

    Raises ``PilotError`` where there is no image to run it in, or no room.
    """
    record: Benchmark = declared.record
    directory = ""
    try:
        directory = _new_directory(session, f"benchmark-{record.name}")
        own = dict.fromkeys(("HOME", "TMPDIR", "TMP", "TEMP"), directory)
        if is_program(record):
            inside = record.where == "image"
            image = _interior(session, state, record.platform).image if inside else None
            _write_context(session, state, directory)
            argv, environment = _words(session, state, record, record.command, directory)
            return directory, argv, environment if inside else environment | own, image
        if declared.builtin:
            return directory, [], {}, None
        request = _write_request(session, state, record, directory)
        argv = [*session.around.interpreter, "_child", "call", request, "3"]
        return directory, argv, {**session.around.environment, **own}, None
    except PilotError:
        _remove(directory)
        raise
    except OSError as error:
        _remove(directory)
        raise PilotError(_no_room(record.name, error)) from error


def _write_request(session: Session, state: State, record: Benchmark, directory: str) -> str:
    """The file that tells a child which function of a plugin to call, and with what."""
    context = replace(session.context(state), workspace=directory, task=record.name)
    request = {"directories": list(session.around.directories), "run": record.run, "context": to_json(context)}
    path = os.path.join(directory, REQUEST_FILE)
    os.mkdir(os.path.dirname(path), 0o700)
    write_json(path, request)
    return path


def periodic_command(session: Session, state: State, record: Periodic, environment: Mapping[str, str]) -> Words:
    """The command line of a periodic program, in a directory that it keeps from one run to the next.

    Raises ``PilotError`` where there is no image to run it in, or no room.
    """
    directory = os.path.join(session.workspace.temporary, f"periodic-{_file_name(record.name)}")
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        _write_context(session, state, directory)
        return _words(session, state, record, record.command, directory, environment)
    except OSError as error:
        raise PilotError(_no_room(record.name, error)) from error


def journal_teardown(session: Session, state: State, record: Setup) -> None:
    """Note what undoes a setup, which is to be begun next; it gets a directory that stays until then.

    Raises ``PilotError`` where it cannot be noted, or there is no image for it: the setup must not be begun then.
    """
    if session.journal is None or not record.teardown:
        return
    try:
        directory = _directory_of(session, record, f"teardown-{record.name}")
        _write_context(session, state, directory)
        words = _words(session, state, record, record.teardown, directory)
        _write_teardown(session.journal, state, record, words, directory)
    except OSError as error:
        raise PilotError(_no_room(record.name, error)) from error


def own_teardowns(session: Session, state: State) -> Teardowns:
    """How this pilot undoes its setups when another pilot has begun them and died, by the label in the journal.

    The program gets that pilot's identifier; its ``facts`` are empty, as nothing was probed yet.
    """
    found: dict[str, OwnTeardown] = {}
    for record in (declared.record for declared in session.loaded.of("pilot_setups")):
        label = _teardown_label(record)
        if not record.teardown:
            continue
        refusal = ""
        if record.where == "image":
            refusal = "it is run inside an image, and this pilot has none before its first stage"
        elif label in found:
            refusal = "several setups of this pilot have this name"
        found[label] = OwnTeardown(record.teardown_seconds, _prepared_for_another(session, state, record), refusal)
    return found


def _prepared_for_another(session: Session, state: State, record: Setup) -> Callable[[str], Prepared]:
    def prepare(pilot_id: str) -> Prepared:
        its_state = replace(state, pilot_id=pilot_id, facts={})
        directory = _new_directory(session, f"teardown-{record.name}")
        _write_context(session, its_state, directory)
        return *_words(session, its_state, record, record.teardown, directory), directory

    return prepare


def _teardown_label(record: Setup) -> str:
    return f"teardown of {record.name}"


def _words(
    session: Session,
    state: State,
    record: Any,
    words: Sequence[str],
    directory: str,
    environment: Mapping[str, str] | None = None,
) -> Words:
    """Raises ``PilotError`` and ``OSError``."""
    record = _with_script_file(record, directory)
    variables = {ID_VARIABLE: state.pilot_id}
    if getattr(record, "where", "host") == "host":
        variables |= {CONTEXT_VARIABLE: os.path.join(directory, CONTEXT_FILE)}
        whole = {**(environment or session.around.environment), **variables}
        program, *arguments = filled(words, record.script)
        return [_found(program, whole["PATH"]), *arguments], whole
    inside = script_inside(record.script) if record.script else None
    interior = _interior(session, state, record.platform)
    variables |= {CONTEXT_VARIABLE: os.path.join(INSIDE, CONTEXT_FILE)}
    return interior.command(filled(words, inside), directory, script=record.script, variables=variables)


def _with_script_file(record: Any, directory: str) -> Any:
    """The record with the path of its script, which becomes a file where it was given as a text. Raises ``OSError``."""
    if not is_text(record.script):
        return record
    path = os.path.join(directory, TEXT_DIRECTORY, _file_name(record.name))
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o700), "wb") as file:
        file.write(record.script.encode("utf-8", "surrogateescape"))
    os.chmod(path, 0o700)
    return replace(record, script=path)


def _interior(session: Session, state: State, platform: str | None) -> Interior:
    jobs = job_container(state)
    return Interior.of(state.container, platform, jobs, session.around.environment, session.workspace.temporary)


def _write_teardown(journal: Journal, state: State, record: Setup, words: Words, directory: str) -> None:
    argv, environment = words
    journal.command(
        _teardown_label(record),
        argv,
        environment,
        directory=directory,
        seconds=record.teardown_seconds,
        pilot_started=state.started,
    )


def _found(program: str, search_path: str) -> str:
    """The program's path, which the resident processes do not look for; as it is when it is nowhere."""
    return shutil.which(program, path=search_path) or program


def _write_context(session: Session, state: State, directory: str) -> dict[str, Json]:
    """What the function of a plugin would be given, without what only a function can use."""
    context = session.context(state)
    told = {
        "facts": context.facts,
        "config": context.config,
        "environment": context.environment,
        "pilot_id": context.pilot_id,
    }
    plain: dict[str, Json] = to_json(told)
    path = os.path.join(directory, CONTEXT_FILE)
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(plain, file)
    return plain


def _new_directory(session: Session, name: str) -> str:
    # Not from the tempfile module: it would cost every pilot several milliseconds at its start.
    directory = os.path.join(session.workspace.temporary, f"{_file_name(name)}-{os.urandom(6).hex()}")
    os.mkdir(directory, 0o700)
    return directory


def _directory_of(session: Session, record: Any, name: str) -> str:
    """The directory that a setup shares with others, else a new one. Raises ``OSError``."""
    shared = getattr(record, "directory", "")
    if not shared:
        return _new_directory(session, name)
    directory = os.path.join(session.workspace.temporary, shared)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    return directory


def _clear(record: Any, directory: str) -> None:
    """Remove what was made for one run of a program."""
    if not getattr(record, "directory", ""):
        _remove(directory)


def _file_name(name: str) -> str:
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "_" for letter in name)


def _remove(directory: str) -> None:
    if directory:
        shutil.rmtree(directory, ignore_errors=True)


def _ran(_: Result) -> None:
    """A program of the node that could not be started says so by its result."""
    return


def _no_room(name: str, error: OSError) -> Failure:
    message = f"{name} cannot be run in the workspace: {error.strerror}: {error.filename}"
    return Failure(FailureKind.NODE_RESOURCE, "disk.full", message, "the site frees space in the scratch directory")
