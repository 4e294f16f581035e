"""How the processors of a node are arranged: threads in cores, cores in packages, and memory beside them.

Rules: the kernel's Documentation/admin-guide/cputopology.rst and, in Documentation/ABI/stable, sysfs-devices-node and
sysfs-devices-system-cpu. One file per core is read, not one per processor: a core's file names all its threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import parse_cpu_list, parse_integer

CPUS = "/sys/devices/system/cpu"
NODES = "/sys/devices/system/node"
_LIST_LIMIT_BYTES = 4096
_MEMORY_LIMIT_BYTES = 16 << 10
_MOST_NODES = 1024


@dataclass(frozen=True, slots=True)
class Topology:
    """Cores of the processors that are online, the most threads one of them has, and packages; None where the kernel
    does not list it for every processor."""

    cores: int | None = None
    threads_per_core: int | None = None
    sockets: int | None = None


@dataclass(frozen=True, slots=True)
class NumaNode:
    """One memory node: its processors (none for memory alone) and its memory."""

    number: int
    cpus: frozenset[int]
    memory_mib: int | None


def read_topology(node: Node, online: frozenset[int] | None) -> Topology:
    """The arrangement of the processors that are online."""
    cores = _groups(node, online, "thread_siblings_list")
    packages = _groups(node, online, "core_siblings_list")
    return Topology(
        cores=len(cores) if cores else None,
        threads_per_core=max(map(len, cores)) if cores else None,
        sockets=len(packages) if packages else None,
    )


def read_smt(node: Node) -> bool | None:
    """Whether threads share cores now; None when the kernel (before 4.19) has no such switch."""
    return {"0": False, "1": True}.get(node.read_line(f"{CPUS}/smt/active") or "")


def read_numa_nodes(node: Node) -> tuple[NumaNode, ...] | None:
    """The memory nodes in their order; None when the kernel lists none."""
    numbers = parse_cpu_list(node.read(f"{NODES}/online", limit_bytes=_LIST_LIMIT_BYTES))
    return None if numbers is None else tuple(_numa_node(node, number) for number in sorted(numbers)[:_MOST_NODES])


def parse_node_memory(text: str) -> int | None:
    """The MiB in the ``MemTotal`` line of a memory node's ``meminfo``; None without one."""
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 5 and fields[2] == "MemTotal:" and fields[4] == "kB":
            number = parse_integer(fields[3])
            return None if number is None else number >> 10
    return None


def _numa_node(node: Node, number: int) -> NumaNode:
    cpus = parse_cpu_list(node.read(f"{NODES}/node{number}/cpulist", limit_bytes=_LIST_LIMIT_BYTES))
    memory = parse_node_memory(node.read(f"{NODES}/node{number}/meminfo", limit_bytes=_MEMORY_LIMIT_BYTES) or "")
    return NumaNode(number, cpus or frozenset(), memory)


def _groups(node: Node, online: frozenset[int] | None, name: str) -> list[frozenset[int]] | None:
    """The groups that the processors form; None when one of them is not told."""
    found = list(_each_group(node, online or frozenset(), name))
    return None if None in found else [group for group in found if group]


def _each_group(node: Node, online: frozenset[int], name: str) -> Iterator[frozenset[int] | None]:
    left = set(online)
    while left:
        cpu = min(left)
        members = parse_cpu_list(node.read(f"{CPUS}/cpu{cpu}/topology/{name}", limit_bytes=_LIST_LIMIT_BYTES))
        if members is None or cpu not in members:
            yield None
            return
        yield members & online
        left -= members
