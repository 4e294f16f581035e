"""What the kernel limits each of the pilot's processes to, as ``/proc/self/limits`` lists it (proc_pid_limits(5))."""

from __future__ import annotations

import re

from pilot_agent.model import UNLIMITED, Fact, Json
from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import parse_integer

NAME = "os.limits"
SOURCE = "/proc/self/limits"

# The kernel's words -> the name here (as in limits.conf(5), with its unit) and how many of its units make one of ours.
_LIMITS = {
    "Max open files": ("nofile", 1),
    "Max processes": ("nproc", 1),
    "Max stack size": ("stack_kib", 1024),
    "Max core file size": ("core_kib", 1024),
    "Max locked memory": ("memlock_kib", 1024),
    "Max address space": ("as_kib", 1024),
    "Max data size": ("data_kib", 1024),
    "Max file size": ("fsize_kib", 1024),
    "Max cpu time": ("cpu_seconds", 1),
}
_LINE = re.compile(r"(Max [a-z ]{1,20}?) {2,}(unlimited|[0-9]+) +(unlimited|[0-9]+)(?: .*)?")


def parse_limits(text: str) -> dict[str, dict[str, int | str]]:
    """Name -> soft and hard limit, or the word ``unlimited``; lines in another form, and limits without a name here,
    are left out.

    ``{"nofile": {"soft": 1024, "hard": 262144}, "stack_kib": {"soft": 8192, "hard": "unlimited"}, ...}``
    """
    found: dict[str, dict[str, int | str]] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is None or match[1] not in _LIMITS:
            continue
        name, divisor = _LIMITS[match[1]]
        soft, hard = (parse_integer(word) for word in (match[2], match[3]))
        if (soft is None and match[2] != "unlimited") or (hard is None and match[3] != "unlimited"):
            continue
        found[name] = {
            "soft": UNLIMITED if soft is None else soft // divisor,
            "hard": UNLIMITED if hard is None else hard // divisor,
        }
    return found


def find_limits(node: Node) -> Fact:
    """``os.limits``: soft and hard limit by name."""
    limits = parse_limits(node.read(SOURCE, limit_bytes=16 << 10) or "")
    if not limits:
        return Fact.unknown(NAME, f"{SOURCE} could not be read", source=SOURCE)
    # What jobs run out of first stands first: a page shows only the beginning.
    value: Json = {name: limits[name] for name, _ in _LIMITS.values() if name in limits}
    return Fact(NAME, value, source=SOURCE)
