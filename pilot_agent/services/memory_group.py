"""The memory of a service bounded by the kernel, where the batch system's control group was divided for the jobs.

Beside the jobs' groups (``lifecycle.control_groups``) each service with ``memory_mib`` gets one of its own:

    GROUP/pilot-agent-ID/service-NAME    memory.max is its limit

Undoing the division moves what is there up and removes it. Elsewhere the supervisor measures.
"""

from __future__ import annotations

import os

from pilot_agent.lifecycle.control_groups import AGENT, MOUNT, PREFIX, move, read_words, write_word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

OWN = "/proc/self/cgroup"
LIMIT_BYTES = 65536


def bounded_group(name: str, memory_mib: int) -> str:
    """The service's group with this limit, made where it is not there; empty where there can be none."""
    division = _division()
    if not division:
        return ""
    group = f"{division}/service-{name}"
    try:
        if "memory" not in read_words(f"{division}/cgroup.subtree_control"):
            return ""
        if not os.path.isdir(group):
            os.mkdir(group, 0o755)
        write_word(f"{group}/memory.max", str(memory_mib << 20))
    except OSError:
        return ""
    for file, word in (("memory.swap.max", "0"), ("memory.oom.group", "1")):
        try:
            write_word(f"{group}/{file}", word)
        except OSError:  # no swap is counted, or an older kernel: the limit itself stands
            continue
    return group


def entered(group: str, pids: Iterable[int]) -> bool:
    """Whether the processes were moved there."""
    return not move(pids, group)


def kills(group: str) -> int:
    """How many processes the kernel has killed there for want of memory."""
    if not group:
        return 0
    try:
        words = read_words(f"{group}/memory.events")
        return int(words[words.index("oom_kill") + 1])
    except (OSError, ValueError, IndexError):
        return 0


def _division() -> str:
    """The group that this pilot made, of which this process is in the leaf; empty where there is none."""
    try:
        with open(OWN, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read(LIMIT_BYTES).split("\n")
    except OSError:
        return ""
    for line in lines:
        above, _, leaf = line.removeprefix("0::").rpartition("/")
        if line.startswith("0::") and leaf == AGENT and os.path.basename(above).startswith(PREFIX):
            return MOUNT + above
    return ""
