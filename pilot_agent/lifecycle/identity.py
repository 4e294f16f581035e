"""Which process a number means: a pid alone is reused, so that a kill by pid could hit a stranger."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PROC = "/proc"
MOST_PID = (1 << 31) - 1
"""What the kernel's calls take."""


class Stat:
    """The fields of ``/proc/PID/stat`` that matter here (proc(5))."""

    __slots__ = ("name", "parent", "start_ticks", "state")

    def __init__(self, name: str, state: str, parent: int, start_ticks: int) -> None:
        self.name = name
        self.state = state
        self.parent = parent
        self.start_ticks = start_ticks


class Identity:
    """A process for good: pid as seen here, start time, boot, and the PID namespace in which the pid counts."""

    __slots__ = ("boot_id", "pid", "pid_namespace", "start_ticks")

    def __init__(self, pid: int, start_ticks: int, boot_id: str, pid_namespace: int) -> None:
        self.pid = pid
        self.start_ticks = start_ticks
        self.boot_id = boot_id
        self.pid_namespace = pid_namespace

    def to_json(self) -> dict[str, Any]:
        """The form that ``from_json`` takes."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Identity:
        """The identity written by ``to_json``. Raises ``KeyError`` or ``ValueError`` for anything else."""
        pid = whole(data["pid"])
        if not 0 < pid <= MOST_PID:
            raise ValueError("no process has this number")
        return cls(pid, whole(data["start_ticks"]), str(data["boot_id"]), whole(data["pid_namespace"]))


def whole(value: Any) -> int:
    """A number of a file that anybody may have written. Raises ``TypeError`` or ``ValueError`` for what is none."""
    try:
        return int(value)
    except OverflowError:  # Infinity, and what is as large
        raise ValueError("the number is infinite") from None


def read_stat(pid: int) -> Stat | None:
    """The process ``pid``, or None when there is none."""
    try:
        descriptor = os.open(f"{PROC}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        content = os.read(descriptor, 4096).decode("utf-8", "replace")
    except OSError:  # it ended between open and read (ESRCH)
        return None
    finally:
        os.close(descriptor)
    # The name may hold blanks and parentheses; the fields begin after the last one.
    name, _, rest = content.partition("(")[2].rpartition(")")
    fields = rest.split()
    return Stat(name, fields[0], int(fields[1]), int(fields[19]))


def boot_id() -> str:
    """This boot of the kernel, as a random identifier; empty when it cannot be read."""
    try:
        with open(f"{PROC}/sys/kernel/random/boot_id", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""


def own_pid_namespace() -> int:
    """The inode number of this process's PID namespace; 0 when it cannot be read."""
    try:
        return os.stat(f"{PROC}/self/ns/pid").st_ino
    except OSError:
        return 0


def identify(pid: int) -> Identity | None:
    """The identity of a process that exists now, or None."""
    stat = read_stat(pid)
    return None if stat is None else Identity(pid, stat.start_ticks, boot_id(), own_pid_namespace())


def still_same(identity: Identity) -> bool:
    """True while the very process is there and not a zombie; False in another boot or PID namespace."""
    if identity.boot_id != boot_id() or identity.pid_namespace != own_pid_namespace():
        return False
    stat = read_stat(identity.pid)
    return stat is not None and stat.start_ticks == identity.start_ticks and stat.state not in "ZX"
