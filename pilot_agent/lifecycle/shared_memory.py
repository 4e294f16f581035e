"""Shared memory segments that processes leave behind: System V ones live until somebody removes them, POSIX ones are
files in /dev/shm. Whose they are can only be seen while a process has them mapped."""

from __future__ import annotations

import os

from pilot_agent.lifecycle.identity import PROC
from pilot_agent.lifecycle.spawn import find_program, run_short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilot_agent.lifecycle.budget import Budget

FILES = "/dev/shm/"  # noqa: S108 - nothing is made there
SYSTEM_V = "/SYSV"
LIMIT_BYTES = 8 << 20
STEP_SECONDS = 2.0


class Segments:
    """Segments seen so far: System V ids, and files with their device and inode."""

    __slots__ = ("creators", "files", "ids")

    def __init__(self) -> None:
        self.ids: set[int] = set()
        self.creators: set[int] = set()
        self.files: dict[str, tuple[str, int]] = {}

    def look(self, pids: Iterable[int]) -> None:
        """Remember what these processes have mapped, and that they may have made more. Those that see another memory
        than this process (another IPC namespace) keep theirs, which goes with the namespace."""
        for pid in pids:
            if _namespace(pid) == _namespace("self"):
                self.creators.add(pid)
                for device, inode, path in _mapped(pid):
                    if path.startswith(SYSTEM_V):
                        self.ids.add(inode)
                    else:
                        self.files[path] = (device, inode)

    def remove(self, budget: Budget) -> list[str]:
        """Remove those of this account that nobody uses any more; what was removed."""
        removed = []
        program = find_program("ipcrm")
        for number, creator in _unused():
            if program is not None and (number in self.ids or creator in self.creators):
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


def _unused() -> list[tuple[int, int]]:
    """Id and creator of this account's System V segments that no process is attached to."""
    try:
        with open(f"{PROC}/sysvipc/shm", encoding="ascii") as file:
            names, *lines = [line.split() for line in file]
    except (OSError, ValueError):
        return []
    rows = [dict(zip(names, map(int, line), strict=False)) for line in lines]
    return [(row["shmid"], row["cpid"]) for row in rows if row["uid"] == os.geteuid() and row["nattch"] == 0]
