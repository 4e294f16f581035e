"""Run one program of others, and leave nothing of it behind but its files."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Mapping, Sequence

from pilot_agent.process import Result, run

OUTPUT_BYTES = 256 << 10
END_SECONDS = 5.0
SHELL = "/bin/sh"
_SET_CHILD_SUBREAPER = 36  # prctl(2)


def run_contained(
    argv: Sequence[str], *, seconds: float, environment: Mapping[str, str], directory: str, leaves_processes: bool
) -> tuple[Result, int]:
    """How the program ended, and how many processes that it left elsewhere had to be ended.

    Past its time it is killed; what it says beyond the limit is lost. Only with ``leaves_processes``, and when it ended
    by itself, what it started goes on until the pilot ends.
    """
    _adopt_orphans()
    os.umask(0o022)  # what scripts have always had; nobody else reaches the directory
    ended = _run(argv, seconds, environment, directory, leaves_processes)
    if ended.error == "ENOEXEC":  # no interpreter line: a shell takes it for a script of its own
        ended = _run([SHELL, *argv], seconds, environment, directory, leaves_processes)
    if leaves_processes and not ended.timed_out:
        return ended, 0
    return ended, end_the_rest()


def _run(
    argv: Sequence[str], seconds: float, environment: Mapping[str, str], directory: str, leaves_processes: bool
) -> Result:
    return run(
        argv,
        deadline_seconds=seconds,
        environment=environment,
        directory=directory,
        output_limit_bytes=OUTPUT_BYTES,
        leaves_daemons=leaves_processes,
    )


def end_the_rest() -> int:
    """Kill all that is left below this process, and its orphans; how many there were."""
    ended: set[int] = set()
    until = time.monotonic() + END_SECONDS
    while time.monotonic() < until:
        try:
            reaped, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if reaped:
            continue
        for child in children():
            ended.add(child)
            with contextlib.suppress(PermissionError):  # one that changed its account
                os.kill(child, signal.SIGKILL)
        time.sleep(0.005)
    return len(ended)


def children() -> list[int]:
    """Processes whose parent this one is; a number is not given to another before it is reaped here."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):  # it ended meanwhile
            continue
        if parent == os.getpid():
            found.append(int(name))
    return found


def _adopt_orphans() -> None:
    """What a script leaves in a session of its own becomes a child of this process."""
    try:
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (OSError, AttributeError):  # whoever ends the pilot's processes finds them later
        return
