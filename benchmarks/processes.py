"""What the kernel says about processes: who descends from whom, their numbers inside a host, their memory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of one process in KiB (smaps_rollup, proc_pid_smaps(5))."""

    rss_kib: int
    pss_kib: int
    private_kib: int


def children(pid: int) -> list[int]:
    """The children of a process; none when it has ended."""
    try:
        tasks = list((PROC / str(pid) / "task").iterdir())
        return [int(word) for task in tasks for word in (task / "children").read_text(encoding="ascii").split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def descendants(pid: int) -> list[int]:
    """Every process below one, parents first."""
    found: list[int] = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def name(pid: int) -> str:
    """A process's name; empty when it has ended."""
    try:
        return (PROC / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def arguments(pid: int) -> list[str]:
    """A process's argument list; empty when it has ended."""
    try:
        raw = (PROC / str(pid) / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [word.decode(errors="replace") for word in raw.split(b"\0")[:-1]]


def number_inside(pid: int) -> int:
    """The number that a process has in the innermost PID namespace it is in (NSpid, proc_pid_status(5))."""
    status = (PROC / str(pid) / "status").read_text(encoding="utf-8", errors="replace")
    line = next(line for line in status.splitlines() if line.startswith("NSpid:"))
    return int(line.split()[-1])


def memory(pid: int) -> Memory:
    """A process's memory. Raises FileNotFoundError or ProcessLookupError when it has ended."""
    return parse_rollup((PROC / str(pid) / "smaps_rollup").read_text(encoding="ascii"))


def spent_seconds(pids: Iterable[int], proc: Path = PROC) -> float:
    """CPU time of these processes and of all below them that have ended; one that has ended meanwhile is left out,
    because its parent has its time."""
    ticks = 0
    for pid in pids:
        try:
            ticks += parse_spent((proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace"))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def parse_spent(text: str) -> int:
    """Clock ticks of a process and of the children that it waited for (proc_pid_stat(5), utime to cstime)."""
    return sum(map(int, text.rpartition(")")[2].split()[11:15]))


def mapped_files(pid: int) -> set[str]:
    """The files that a process has in its memory, as it names them itself."""
    maps = (PROC / str(pid) / "maps").read_text(encoding="utf-8", errors="replace")
    words = (line.split(maxsplit=5) for line in maps.splitlines())
    return {parts[5] for parts in words if len(parts) == 6 and parts[5].startswith("/")}


def parse_rollup(text: str) -> Memory:
    """Read the text of a smaps_rollup file."""
    rows = dict(line.split(":", 1) for line in text.splitlines()[1:])
    kib = {key: int(value.split()[0]) for key, value in rows.items()}
    return Memory(kib["Rss"], kib["Pss"], kib["Private_Clean"] + kib["Private_Dirty"])


def own_processes(guardian: int) -> list[int]:
    """The pilot's own processes: the guardian and all below it, without HTCondor's daemons and without jobs."""
    own = [guardian]
    for child in children(guardian):
        own += _own_below(child)
    return own


def _own_below(pid: int) -> list[int]:
    called = name(pid)
    if called == "condor_starter":
        return []
    below = [one for child in children(pid) for one in _own_below(child)]
    return below if called.startswith("condor_") else [pid, *below]
