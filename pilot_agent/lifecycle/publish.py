"""What leaves the node at the end: report, events and logs, copied to the output directory before all is removed.

All of it is for the pilot's own account only: logs hold command lines of users' jobs, and the output directory may be
one that everybody can enter.
"""

from __future__ import annotations

import os
import select
import stat
import time

from pilot_agent.files import read_bounded, write_json
from pilot_agent.lifecycle.printed import printed
from pilot_agent.light import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot_agent.workspace import Workspace

LOG_LIMIT_BYTES = 20 << 20
EVENTS_LIMIT_BYTES = 64 << 20
CHUNK_BYTES = 1 << 16
JOB_RECORDS = ("startd_history", "transfer_history", "XferStatsLog")
"""Beginnings of the names of files in HTCondor's log directory that hold users' job ads (their environment, their
arguments) or the URLs of their files: they stay on the node; the report's ``jobs`` says what a factory needs."""
PRINT_SECONDS = 2.0
PRINT_CHUNK_BYTES = 4096  # a pipe that is writable takes at least this much without blocking (pipe(7), PIPE_BUF)


def save_logs(workspace: Workspace, output: str, limit_bytes: int = LOG_LIMIT_BYTES) -> list[str]:
    """Copy HTCondor's and the services' logs to ``output``/logs, of big ones only the end, ``limit_bytes`` in all.
    Records of users' jobs are left out.

    The problems, one line each; none of them stops the rest.
    """
    logs = _find_logs(workspace)
    if not logs:
        return []
    directory = os.path.join(output, "logs")
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except OSError as error:
        return [f"{directory}: {error.strerror}"]
    problems = []
    room = limit_bytes
    # Smallest first: what a small file leaves of its share goes to the bigger ones.
    for done, (size, source, name) in enumerate(sorted(logs)):
        share = min(size, room // (len(logs) - done))
        try:
            room -= _copy_end(source, os.path.join(directory, name), share)
        except OSError as error:
            problems.append(f"{source}: {error.strerror}")
    return problems


def save_events(workspace: Workspace, output: str) -> list[str]:
    """Copy the event log to ``output``; the problems."""
    try:
        os.makedirs(output, exist_ok=True)
        _copy_end(workspace.events, os.path.join(output, "events.jsonl"), EVENTS_LIMIT_BYTES)
    except OSError as error:
        return [f"{workspace.events}: {error.strerror}"]
    return []


def save_report(report: dict[str, Any], output: str | None, *, also_print: bool = False) -> bool:
    """Write ``report.json`` in ``output`` in one step; True when it was written.

    Where that is impossible it is printed between markers, and with ``also_print`` in any case but that of a terminal.
    """
    written = False
    if output is not None:
        try:
            os.makedirs(output, exist_ok=True)
            write_json(os.path.join(output, "report.json"), report)
            written = True
        except OSError as error:
            _print(2, f"pilot-agent: the report cannot be written to {output}: {error.strerror}\n")
    if not written or (also_print and not os.isatty(1)):
        _print(1, printed(report))
    return written


def expect_factory(workspace: Workspace) -> None:
    """Where an existing factory reads the end, load what that takes now, while the payload is there."""
    if os.path.lexists(workspace.factory_output):
        from pilot_agent.lifecycle import factory_output  # noqa: F401


def print_for_factory(workspace: Workspace, report: dict[str, Any], code: int) -> None:
    """What an existing factory reads of the end, where one does; ``code`` is the exit code that it gets."""
    try:
        about = loads(read_bounded(workspace.factory_output))
        from pilot_agent.lifecycle import factory_output

        texts = factory_output.texts(report, about, code, time.time())
    except (OSError, ValueError, ImportError):  # nobody reads it, or workspace and payload are gone
        return
    for descriptor, text in zip((1, 2), texts, strict=True):
        _print(descriptor, text)


def say_problem(problem: dict[str, Any]) -> None:
    """One line a person can act on, on standard error."""
    hint = f" - {problem['hint']}" if problem.get("hint") else ""
    _print(2, f"pilot-agent: {problem['kind']}: {problem['code']}: {problem['message']}{hint}\n")


def _find_logs(workspace: Workspace) -> list[tuple[int, str, str]]:
    """Size, path and name-to-be of every log."""
    directories = [(workspace.condor_log, "")]
    try:
        directories += [(entry.path, f"service-{entry.name}-") for entry in os.scandir(workspace.services)]
    except OSError:  # no services, or the workspace is gone
        directories += []
    found = []
    for directory, prefix in directories:
        try:
            entries = list(os.scandir(directory))
        except OSError:
            continue
        for entry in entries:
            wanted = entry.name.endswith(".log") if prefix else not entry.name.startswith(JOB_RECORDS)
            if wanted and entry.is_file(follow_symlinks=False):
                found.append((entry.stat(follow_symlinks=False).st_size, entry.path, prefix + entry.name))
    return found


def _copy_end(source: str, target: str, limit_bytes: int) -> int:
    """Copy at most the last ``limit_bytes`` of a regular file; the bytes copied. Raises ``OSError``."""
    reader = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(reader)
        if not stat.S_ISREG(status.st_mode):
            return 0
        os.lseek(reader, max(0, status.st_size - limit_bytes), os.SEEK_SET)
        writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(writer, 0o600)  # one that an earlier pilot left keeps its mode otherwise
            copied = 0
            while copied < limit_bytes and (chunk := os.read(reader, min(CHUNK_BYTES, limit_bytes - copied))):
                view = memoryview(chunk)
                while view:
                    view = view[os.write(writer, view) :]
                copied += len(chunk)
            return copied
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _print(descriptor: int, text: str) -> None:
    """Write to a standard stream; one that is closed, full or read by nobody must not hold the end up."""
    view = memoryview(text.encode())
    end = time.monotonic() + PRINT_SECONDS
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    try:
        while view and (left := end - time.monotonic()) > 0:
            if poll.poll(left * 1000):
                view = view[os.write(descriptor, view[:PRINT_CHUNK_BYTES]) :]
    except OSError:
        return
