"""Starts one service and waits until it is ready; one that does not become ready is ended again."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pilot_agent.config_kinds import SERVICE_NAME
from pilot_agent.hookspecs import Service
from pilot_agent.model import ServiceState
from pilot_agent.pidfd import Ending
from pilot_agent.process import Interrupted, WakeUp, run, start_resident
from pilot_agent.workspace import Workspace

ALIVE_SECONDS = 1.0
"""A service that declares no readiness is ready when it still lives after so long."""

FIRST_PAUSE_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.5
HOST_SECONDS = 60.0
COMMAND_SECONDS = 10.0
CONNECT_SECONDS = 1.0
KILL_SECONDS = 1.0
LOG_NAME = "log"
PLACE = "{workspace}"

_NAME = re.compile(SERVICE_NAME)


@dataclass(frozen=True, slots=True)
class _Running:
    """A started service: its record with every place filled in, its process, and how to watch both."""

    service: Service
    end: Ending
    directory: str
    environment: Mapping[str, str]
    started: float


def start_service(
    service: Service,
    workspace: Workspace,
    environment: Mapping[str, str],
    wake: WakeUp | None,
    on_started: Callable[[int], None],
) -> ServiceState:
    """Start it in ``services/<name>`` of the workspace and wait for its readiness; ``on_started(pid)`` is called right
    after the start. Its output goes to ``log`` there.

    A service that cannot be started, dies, or is not ready in time is ``failed`` with the reason and the last line it
    said, and nothing of it runs any more. Raises ``Interrupted``: the service then still runs, known to the journal.
    """
    if not _NAME.fullmatch(service.name):
        return _failed(service, f"{service.name!r} is no name for a directory: letters, digits and . _ - only")
    directory = os.path.join(workspace.services, service.name)
    words = [_filled(word, directory) for word in service.command]
    own = {name: _filled(value, directory) for name, value in service.environment.items()}
    everything = {**environment, **own}
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        log = os.open(os.path.join(directory, LOG_NAME), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        return _failed(service, f"its directory {directory} cannot be used: {error.strerror}")
    started = time.monotonic()
    try:
        pid = start_resident(words, environment=everything, output=log, directory=directory)
    except (OSError, ValueError) as error:
        return _failed(service, f"{words[0]} could not be started: {error}")
    finally:
        os.close(log)
    end = Ending(pid)
    try:
        on_started(pid)
        return _until_ready(_Running(service, end, directory, everything, started), wake)
    finally:
        end.close()


def _until_ready(running: _Running, wake: WakeUp | None) -> ServiceState:
    readiness = running.service.readiness
    ready, what = _test_of(running, wake)
    limit = HOST_SECONDS if readiness.timeout_seconds is None else readiness.timeout_seconds
    end = running.started + (limit if what != "alive" else ALIVE_SECONDS)
    pause = FIRST_PAUSE_SECONDS
    while True:
        if _waited(running.end, wake, 0.0):
            return _ended(running)
        if ready():
            seconds = round(time.monotonic() - running.started, 4)
            message = f"ready by {what}"
            return ServiceState(
                running.service.name, "ready", running.end.pid, seconds, message, dict(running.service.attributes)
            )
        left = end - time.monotonic()
        if left <= 0 and what != "alive":
            said = _last_line(running.directory)
            stop(running.service, running.end)
            return _failed(running.service, f"not ready by {what} within {limit:g} s{said}")
        _waited(running.end, wake, max(0.0, min(pause, left)))
        pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)


def _test_of(running: _Running, wake: WakeUp | None) -> tuple[Callable[[], bool], str]:
    """How this service is asked whether it is ready, and the words for it."""
    readiness = running.service.readiness
    if readiness.port is not None:
        port = int(readiness.port)
        return lambda: _accepts(port), f"port {port}"
    if readiness.file is not None:
        path = os.path.join(running.directory, _filled(readiness.file, running.directory))
        return lambda: os.path.exists(path), f"file {path}"
    if readiness.command:
        words = [_filled(word, running.directory) for word in readiness.command]
        return lambda: _exits_zero(words, running, wake), f"command {words[0]}"
    return lambda: time.monotonic() - running.started >= ALIVE_SECONDS, "alive"


def _accepts(port: int) -> bool:
    import socket

    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=CONNECT_SECONDS):
        return True
    return False


def _exits_zero(words: list[str], running: _Running, wake: WakeUp | None) -> bool:
    readiness = running.service.readiness
    limit = HOST_SECONDS if readiness.timeout_seconds is None else readiness.timeout_seconds
    left = running.started + limit - time.monotonic()
    deadline = max(0.1, min(COMMAND_SECONDS, left))
    result = run(
        words, deadline_seconds=deadline, environment=running.environment, directory=running.directory, wake=wake
    )
    return result.ok


def _waited(end: Ending, wake: WakeUp | None, seconds: float) -> bool:
    """True when the service ended within ``seconds``. Raises ``Interrupted``."""
    until = time.monotonic() + seconds
    poller = select.poll()
    for descriptor in (*end.descriptors, *((wake.fileno(),) if wake is not None else ())):
        poller.register(descriptor, select.POLLIN)
    while True:
        left = until - time.monotonic()
        # poll() counts whole milliseconds; less than one would turn waiting into spinning.
        events = poller.poll(max(1.0, end.limited(left) * 1000) if left > 0 else 0)
        if wake is not None and any(fd == wake.fileno() for fd, _ in events) and wake.must_end():
            raise Interrupted
        if end.came():
            return True
        if left <= 0:
            return False


def stop(service: Service, end: Ending) -> None:
    """End a service that is a child of this process: its own signal, then KILL for what is left of its group."""
    _signal_group(end.pid, signal.Signals[service.stop_signal])
    end.wait(service.stop_seconds)
    _signal_group(end.pid, signal.SIGKILL)
    if end.wait(KILL_SECONDS):
        os.waitpid(end.pid, 0)


def _ended(running: _Running) -> ServiceState:
    _, status = os.waitpid(running.end.pid, 0)
    # What it left in its process group would outlive it unseen.
    _signal_group(running.end.pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(status)
    how = f"exited {code}" if code >= 0 else f"was ended by signal {-code}"
    return _failed(running.service, f"{how} before it was ready{_last_line(running.directory)}")


def _failed(service: Service, message: str) -> ServiceState:
    return ServiceState(service.name, "failed", message=message)


def _last_line(directory: str) -> str:
    try:
        with open(os.path.join(directory, LOG_NAME), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return f"; it said last: {lines[-1][:300]}" if lines else "; it said nothing"


def _filled(text: str, directory: str) -> str:
    return text.replace(PLACE, directory)


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
