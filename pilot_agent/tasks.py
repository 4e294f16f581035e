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
from pilot_agent.hookspecs import Benchmark, ContainerRequest, Periodic, Setup
from pilot_agent.lifecycle.inherited import OwnTeardown, Prepared, Teardowns
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.plugins.containers import Interior, JobContainer, never_ran, script_inside
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
            return no_room(record.name, error)
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
            image = interior_of(session, state, record.platform).image if inside else None
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
        raise PilotError(no_room(record.name, error)) from error


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
        raise PilotError(no_room(record.name, error)) from error


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
        raise PilotError(no_room(record.name, error)) from error


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
    interior = interior_of(session, state, record.platform)
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


def interior_of(session: Session, state: State, platform: str | None) -> Interior:
    """The image of a platform as jobs in it are run. Raises ``PilotError`` where there is none."""
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


def no_room(name: str, error: OSError) -> Failure:
    """The workspace does not take what a program needs there."""
    message = f"{name} cannot be run in the workspace: {error.strerror}: {error.filename}"
    return Failure(FailureKind.NODE_RESOURCE, "disk.full", message, "the site frees space in the scratch directory")
