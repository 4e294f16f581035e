"""Who started this process: evidence that a batch system's variables are its own and not a submitter's.

Batch systems pass on the submitter's environment, so a job of one system may carry the variables of another. Variables
that contradict the node (they name another host, or a file that is not there) are believed only where the process's
control group or one of its ancestors speaks for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import parse_integer

# The unit of start times for user space; the same on every architecture that Linux runs jobs on (proc_pid_stat(5)).
_TICKS_PER_SECOND = 100
_DEEPEST = 64
_START_FIELD = 19
"""Of the fields after the program's name, which stands in parentheses and may hold blanks."""


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A process above this one: its program's name (15 characters at most) and its start in ticks since boot."""

    name: str
    start_ticks: int


def parse_stat(text: str) -> tuple[Ancestor, int] | None:
    """A process and its parent's number from ``/proc/PID/stat`` (proc_pid_stat(5)); None for a damaged one."""
    _, opened, rest = text.partition("(")
    name, closed, after = rest.rpartition(")")
    fields = after.split()
    parent = parse_integer(fields[1]) if len(fields) > _START_FIELD else None
    start = parse_integer(fields[_START_FIELD]) if len(fields) > _START_FIELD else None
    if not opened or not closed or parent is None or start is None:
        return None
    return Ancestor(name, start), parent


def ancestors(node: Node) -> Iterator[Ancestor]:
    """This process and those above it, as far as they can be seen."""
    pid = "self"
    for _ in range(_DEEPEST):
        found = parse_stat(node.read(f"/proc/{pid}/stat", limit_bytes=4096) or "")
        if found is None:
            return
        yield found[0]
        if found[1] <= 1:
            return
        pid = str(found[1])


def vouched_for(node: Node, groups: tuple[str, ...], daemons: tuple[str, ...]) -> bool:
    """True when the process's control group contains one of ``groups``, or one of ``daemons`` is above it."""
    own = node.read("/proc/self/cgroup") or ""
    return any(group in own for group in groups) or any(each.name in daemons for each in ancestors(node))


def started_by(node: Node, daemons: tuple[str, ...]) -> int | None:
    """When the process that one of ``daemons`` started, and this one descends from, began (seconds since 1970)."""
    below: Ancestor | None = None
    for each in ancestors(node):
        if each.name in daemons and below is not None:
            boot = _boot_time(node)
            return None if boot is None else boot + below.start_ticks // _TICKS_PER_SECOND
        below = each
    return None


def oldest_of_account(node: Node) -> int | None:
    """When the oldest of the processes above this one that belong to its account began (seconds since 1970): a batch
    system's daemons are another account's. None for root, whose ancestors are the node's own, and where it cannot be
    seen."""
    oldest: Ancestor | None = None
    pid, account = "self", ""
    for _ in range(_DEEPEST):
        found = parse_stat(node.read(f"/proc/{pid}/stat", limit_bytes=4096) or "")
        owner = _owner(node.read(f"/proc/{pid}/status", limit_bytes=4096) or "")
        account = account or owner
        if found is None or owner != account or account in ("", "0"):
            break
        oldest, parent = found
        if parent < 1:
            break
        pid = str(parent)
    boot = _boot_time(node) if oldest is not None else None
    return None if oldest is None or boot is None else boot + oldest.start_ticks // _TICKS_PER_SECOND


def _owner(status: str) -> str:
    """The real user's number from ``/proc/PID/status`` (proc_pid_status(5)); empty for a damaged one."""
    words = next((line.split() for line in status.splitlines() if line.startswith("Uid:")), [])
    return words[1] if len(words) > 1 and words[1].isdigit() else ""


def _boot_time(node: Node) -> int | None:
    for line in (node.read("/proc/stat") or "").splitlines():
        if line.startswith("btime "):
            return parse_integer(line.removeprefix("btime "))
    return None
