"""The processes of a service: its own tree, and whatever else carries its mark."""

from __future__ import annotations

import os

from pilot_agent.lifecycle.identity import PROC, read_stat
from pilot_agent.lifecycle.processes import children, descendants
from pilot_agent.light import signal
from pilot_agent.services.plan import MARKER_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

ENVIRONMENT_BYTES = 1 << 18
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
HELPERS = ("squashfuse", "fuse2fs", "fuse-overlayfs", "gocryptfs", "erofsfuse")
"""Programs by which a container's runtime mounts an image: they end when the mount is gone."""


def members(pid: int, marker: str) -> list[int]:
    """The running processes of the service whose main process is ``pid`` (0: it is gone): all below it, and all that
    left it and came back to this process, which is their subreaper."""
    found = [pid, *descendants(pid)] if pid else []
    for child in children(os.getpid()):
        if child != pid and has_mark(child, marker):
            found += [child, *descendants(child)]
    return [one for one in dict.fromkeys(found) if (stat := read_stat(one)) is not None and stat.state not in "ZX"]


def has_mark(pid: int, marker: str) -> bool:
    """Whether a process was started with a service's mark; False where its environment cannot be read."""
    try:
        descriptor = os.open(f"{PROC}/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        content = bytearray()
        while len(content) < ENVIRONMENT_BYTES and (chunk := os.read(descriptor, 1 << 14)):
            content += chunk
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return f"{MARKER_VARIABLE}={marker}".encode() in content.split(b"\0")


def is_helper(pid: int) -> bool:
    """Whether a process only mounts an image."""
    stat = read_stat(pid)
    return stat is not None and stat.name.startswith(HELPERS)


def is_same(pid: int, start_ticks: int) -> bool:
    """Whether the very process that began at ``start_ticks`` still runs: its number alone may be another's by now."""
    stat = read_stat(pid) if pid > 1 else None
    return stat is not None and stat.start_ticks == start_ticks and stat.state not in "ZX"


def kill(pids: Iterable[int]) -> None:
    """KILL to each; one that is gone or not ours is left alone."""
    for pid in pids:
        send(pid, signal.SIGKILL)


def send(pid: int, number: int) -> None:
    """A signal to a process, or to a group when ``pid`` is negative; one that is gone or not ours is left alone.

    0, 1 and -1 would be this process's own group, the node's first process, and everything there is: never signalled.
    """
    if -1 <= pid <= 1:
        return
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def memory_mib(pids: Iterable[int], limit_mib: int) -> int:
    """What the processes use together, in MiB. What several of them map counts once where the plain sum is above
    ``limit_mib``: to know it exactly costs more than to add up."""
    numbers = list(pids)
    resident_kib = sum(_resident_kib(pid) for pid in numbers)
    if resident_kib <= limit_mib * 1024:
        return resident_kib // 1024
    return sum(_proportional_kib(pid) for pid in numbers) // 1024


def _resident_kib(pid: int) -> int:
    try:
        with open(f"{PROC}/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * PAGE_KIB
    except (OSError, ValueError, IndexError):
        return 0


def _proportional_kib(pid: int) -> int:
    try:
        with open(f"{PROC}/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return _resident_kib(pid)
