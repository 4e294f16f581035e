"""Cores: how many the node has, and everything that bounds how many this pilot may use."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, Finding, Json, Limit
from pilot_agent.probes.batch.allocation import batch_bounds, read_allocations
from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import parse_cpu_list
from pilot_agent.probes.resources import cgroup
from pilot_agent.probes.resources.processors import Processors, parse_cpuinfo
from pilot_agent.probes.resources.site_cpus import site_cpus
from pilot_agent.probes.resources.topology import CPUS, NODES, Topology, read_numa_nodes, read_smt, read_topology
from pilot_agent.probes.system.microarch import arm_version

__all__ = ["Processors", "parse_allowed", "parse_cpuinfo", "probe_cpu"]

USABLE = "cpu.usable"
UNIT = "cores"

_CPUINFO = "/proc/cpuinfo"
_TOPOLOGY = f"{CPUS}/cpu*/topology"
# The kernel makes this file as it is read, about a millisecond per processor on large nodes: one block says enough.
_ONE_PROCESSOR_BYTES = 8 << 10
_ALL_PROCESSORS_BYTES = 8 << 20


def parse_allowed(text: str) -> frozenset[int] | None:
    """The processors in ``Cpus_allowed_list`` of ``/proc/self/status``; None when it is missing or damaged."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "Cpus_allowed_list":
            return parse_cpu_list(value)
    return None


def probe_cpu(context: Context) -> Iterator[Finding]:
    """Limits of ``cpu.usable``, and what the processors are and how they are arranged.

    ``cpu.logical``, ``online``, ``physical``, ``affinity``, ``sockets`` and ``threads_per_core`` are numbers, ``smt``
    is a boolean, ``model`` and ``vendor`` are text, ``flags`` is a list. ``numa_nodes`` is a list of ``{id, cpus,
    usable_cpus, memory_mib}``, ``features`` (of Arm processors) is ``{level, names}``. Nothing but files is read, so
    a recording gives everything that the node itself gives.
    """
    node = Node.of(context)
    online = parse_cpu_list(node.read(f"{CPUS}/online"))
    topology = read_topology(node, online)
    told = online and topology.cores and topology.sockets
    found = parse_cpuinfo(
        node.read(_CPUINFO, limit_bytes=_ONE_PROCESSOR_BYTES if told else _ALL_PROCESSORS_BYTES) or ""
    )
    allowed = parse_allowed(node.read("/proc/self/status") or "")
    if allowed and online:
        # The mask may name processors that the machine could have but does not.
        allowed = allowed & online or allowed
    yield from _counts(node, online, topology, found)
    yield _count("cpu.affinity", len(allowed or ()), "/proc/self/status Cpus_allowed_list")
    yield from _kind(found)
    yield _numa_nodes(node, online, allowed)
    limits = [*_kernel_limits(node, online, allowed, found.logical), *_given_limits(node, context)]
    if limits:
        yield from limits
    else:
        yield Fact.unknown(USABLE, "no source says how many cores there are: /proc and /sys could not be read")


def _counts(node: Node, online: frozenset[int] | None, topology: Topology, found: Processors) -> Iterator[Fact]:
    present = parse_cpu_list(node.read(f"{CPUS}/present"))
    yield _count("cpu.logical", len(present or ()) or len(online or ()) or found.logical, f"{CPUS}/present")
    yield _count("cpu.online", len(online or ()) or found.logical, f"{CPUS}/online" if online else _CPUINFO)
    physical = topology.cores or found.physical or 0
    yield _count("cpu.physical", physical, _TOPOLOGY if topology.cores else _CPUINFO)
    yield _count(
        "cpu.sockets", topology.sockets or found.sockets or 0, _TOPOLOGY if topology.sockets else _CPUINFO, "sockets"
    )
    threads, source = topology.threads_per_core, _TOPOLOGY
    if threads is None and found.physical:
        threads, source = math.ceil(found.logical / found.physical), _CPUINFO
    yield _count("cpu.threads_per_core", threads or 0, source, "threads")
    yield _smt(read_smt(node), threads, source)


def _count(name: str, number: int, source: str, unit: str = UNIT) -> Fact:
    if number:
        return Fact(name, number, unit, source=source)
    return Fact.unknown(name, f"{source} could not be read", source=source)


def _smt(active: bool | None, threads: int | None, source: str) -> Fact:
    name = "cpu.smt"
    if active is not None:
        return Fact(name, active, source=f"{CPUS}/smt/active")
    if threads is not None:
        return Fact(name, threads > 1, source=source)
    return Fact.unknown(name, f"{CPUS}/smt/active and {source} could not be read", source=source)


def _kind(found: Processors) -> Iterator[Fact]:
    for name, value in (("model", found.model), ("vendor", found.vendor), ("flags", list(found.flags))):
        if value:
            yield Fact(f"cpu.{name}", value, source=_CPUINFO)
        else:
            yield Fact.unknown(f"cpu.{name}", f"{_CPUINFO} does not say it", source=_CPUINFO)
    name, source = "cpu.features", f"{_CPUINFO} Features"
    if found.arm and found.flags:
        names = sorted(found.flags)
        detail = "" if arm_version(names) else "no version of the 64-bit Arm architecture is complete"
        yield Fact(name, {"level": arm_version(names), "names": list(names)}, source=source, detail=detail)
    elif found.flags or found.model:
        yield Fact.absent(name, "this is no Arm processor; cpu.flags lists what it can do", source=source)
    else:
        yield Fact.unknown(name, f"{_CPUINFO} does not say it", source=source)


def _numa_nodes(node: Node, online: frozenset[int] | None, allowed: frozenset[int] | None) -> Fact:
    name = "cpu.numa_nodes"
    found = read_numa_nodes(node)
    if found is None and not online:
        return Fact.unknown(name, "/sys could not be read", source=NODES)
    if found is None:
        return node.absence(name, f"this kernel lists none: no {NODES}/online", f"{NODES}/online", source=NODES)
    value: list[Json] = [
        {
            "id": each.number,
            "cpus": len(each.cpus),
            "usable_cpus": len(each.cpus & allowed) if allowed else None,
            "memory_mib": each.memory_mib,
        }
        for each in found
    ]
    return Fact(name, value, source=NODES)


def _kernel_limits(
    node: Node, online: frozenset[int] | None, allowed: frozenset[int] | None, listed: int
) -> Iterator[Limit]:
    if online or listed:
        yield Limit(USABLE, len(online) if online else listed, UNIT, "online")
    if allowed:
        yield Limit(USABLE, len(allowed), UNIT, "affinity")
    for level in cgroup.levels(node, "cpu"):
        quota = cgroup.read_cpu_quota(node, level)
        if quota is not None:
            yield _quota_limit(quota[0], level.source(quota[1]))
    for height, level in enumerate(cgroup.levels(node, "cpuset")):
        members = parse_cpu_list(node.read(level.file("cpuset.cpus")))
        if not members and height == 0:
            members = _effective(node, level)
        if members:
            # A set keeps the processors that were switched off since it was made.
            yield Limit(USABLE, len((members & (online or members)) or members), UNIT, f"cpuset {level.path}")


def _effective(node: Node, level: cgroup.Level) -> frozenset[int] | None:
    """What the process's own group, without a set, takes from its ancestors, also from those that cannot be seen."""
    name = "cpuset.cpus.effective" if level.version == 2 else "cpuset.effective_cpus"
    return parse_cpu_list(node.read(level.file(name)))


def _quota_limit(cores: float, source: str) -> Limit:
    """A quota as whole cores, rounded down but at least 1: one job more than the quota has cores would be throttled
    with all others, and a slot needs one core."""
    whole = max(1, math.floor(cores))
    return Limit(USABLE, whole, UNIT, source if whole == cores else f"{source} ({cores:.2f} rounded to {whole})")


def _given_limits(node: Node, context: Context) -> Iterator[Limit]:
    wanted = site_cpus(context.config)
    if wanted.batch:
        for bound in batch_bounds(read_allocations(node, context.environment), "cores"):
            yield Limit(USABLE, bound.number, UNIT, bound.source)
    if wanted.number is not None:
        yield Limit(USABLE, wanted.number, UNIT, "configuration site.cpus")
