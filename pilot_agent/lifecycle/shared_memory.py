"""Shared memory segments that processes leave behind: System V ones live until somebody removes them, POSIX ones are
files in /dev/shm. Whose they are can only be seen while a process has them mapped."""

from __future__ import annotations

import os
import time

from pilot_agent.lifecycle.identity import PROC, read_stat
from pilot_agent.lifecycle.spawn import find_program, run_short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilot_agent.lifecycle.budget import Budget

FILES = "/dev/shm/"  # noqa: S108 - nothing is made there
SYSTEM_V = "/SYSV"
LIMIT_BYTES = 8 << 20
STEP_SECONDS = 2.0
WHOLE_SECONDS = 2.0
"""How exact times are: those of segments are whole seconds."""


class Segments:
    """Segments seen so far: System V ids, who may have made more and since when it lived (seconds since the epoch), and
    files with their device and inode."""

    __slots__ = ("creators", "files", "ids")

    def __init__(self) -> None:
        self.ids: set[int] = set()
        self.creators: dict[int, float] = {}
        self.files: dict[str, tuple[str, int]] = {}

    def look(self, pids: Iterable[int]) -> None:
        """Remember what these processes have mapped, and that they may have made more. Those that see another memory
        than this process (another IPC namespace) keep theirs, which goes with the namespace."""
        for pid in pids:
            if _namespace(pid) == _namespace("self"):
                self.creators[pid] = _born(pid)
                for device, inode, path in _mapped(pid):
                    if path.startswith(SYSTEM_V):
                        self.ids.add(inode)
                    else:
                        self.files[path] = (device, inode)

    def remove(self, budget: Budget) -> list[str]:
        """Remove those of this account that nobody uses any more; what was removed."""
        removed = []
        program = find_program("ipcrm")
        for number, creator, changed in _unused():
            # A segment that is older than its creator was made by another process of the same number.
            made_here = creator in self.creators and changed >= self.creators[creator] - WHOLE_SECONDS
            if program is not None and (number in self.ids or made_here):
                environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
                if run_short([program, "-m", str(number)], environment, budget.at_most(STEP_SECONDS)) == 0:
                    removed.append(f"System V {number}")
        used = _in_use() if self.files else set()
        for path, (device, inode) in self.files.items():
            try:
                status = os.lstat(path)
                same = (status.st_ino, status.st_uid) == (inode, os.geteuid()) and _device(status.st_dev) == device
                if same and (device, inode) not in used:
                    os.unlink(path)
                    removed.append(path)
            except OSError:  # gone
                continue
        return removed


def _device(number: int) -> str:
    """As ``/proc/PID/maps`` writes it."""
    return f"{os.major(number):02x}:{os.minor(number):02x}"


def _namespace(pid: int | str) -> int:
    try:
        return os.stat(f"{PROC}/{pid}/ns/ipc").st_ino
    except OSError:
        return -1 if pid == "self" else -2


def _mapped(pid: int) -> list[tuple[str, int, str]]:
    """Device, inode and path of each mapped segment (proc(5), maps); a System V one has its id for inode."""
    try:
        with open(f"{PROC}/{pid}/maps", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read(LIMIT_BYTES).splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        fields = line.split(None, 5)
        if len(fields) == 6 and fields[5].startswith((FILES, SYSTEM_V)):
            found.append((fields[3], int(fields[4]), fields[5]))
    return found


def _in_use() -> set[tuple[str, int]]:
    """What any process that can be looked into has mapped."""
    pids = [int(name) for name in os.listdir(PROC) if name.isdigit()]
    return {(device, inode) for pid in pids for device, inode, _ in _mapped(pid)}


def _born(pid: int) -> float:
    """When a process began, seconds since the epoch; never, where it is gone."""
    stat = read_stat(pid)
    if stat is None:
        return float("inf")
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return booted + stat.start_ticks / os.sysconf("SC_CLK_TCK")


def _unused() -> list[tuple[int, int, int]]:
    """Id, creator and last change (seconds since the epoch) of this account's System V segments that no process is
    attached to."""
    try:
        with open(f"{PROC}/sysvipc/shm", encoding="ascii") as file:
            names, *lines = [line.split() for line in file]
    except (OSError, ValueError):
        return []
    rows = [dict(zip(names, map(int, line), strict=False)) for line in lines]
    return [
        (row["shmid"], row["cpid"], row["ctime"]) for row in rows if row["uid"] == os.geteuid() and row["nattch"] == 0
    ]
