"""Cores: how many the node has, and everything that bounds how many this pilot may use."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, Finding, Limit
from pilot_agent.probes import cgroup
from pilot_agent.probes.allocation import batch_bounds, read_allocations
from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import configured_integer, parse_cpu_list

USABLE = "cpu.usable"
UNIT = "cores"

_SYSFS = "/sys/devices/system/cpu"
# The kernel makes this file as it is read, about a millisecond per processor on large nodes: one block says enough.
_ONE_PROCESSOR_BYTES = 8 << 10
_ALL_PROCESSORS_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Processors:
    """What ``/proc/cpuinfo`` says: the number of its blocks, distinct cores (None if it has no such fields), and
    model and flags of the first block."""

    logical: int
    physical: int | None
    model: str | None
    flags: tuple[str, ...]


def parse_cpuinfo(text: str) -> Processors:
    """The processors in ``/proc/cpuinfo`` of x86, Arm or POWER; fields that are missing are empty."""
    blocks = [fields for fields in map(_fields, text.split("\n\n")) if "processor" in fields]
    cores = {
        (fields["physical id"], fields["core id"])
        for fields in blocks
        if "physical id" in fields and "core id" in fields
    }
    first = blocks[0] if blocks else {}
    return Processors(
        logical=len(blocks),
        physical=len(cores) or None,
        model=_model(first),
        flags=tuple((first.get("flags") or first.get("Features") or "").split()),
    )


def _fields(block: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in block.splitlines())
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def _model(fields: Mapping[str, str]) -> str | None:
    named = fields.get("model name") or fields.get("cpu") or fields.get("Processor")
    if named:
        return named
    if "CPU implementer" in fields:
        # Arm names the designer and the part by number only (MIDR_EL1).
        return f"Arm implementer {fields['CPU implementer']} part {fields.get('CPU part', 'unknown')}"
    return None


def parse_allowed(text: str) -> frozenset[int] | None:
    """The processors in ``Cpus_allowed_list`` of ``/proc/self/status``; None when it is missing or damaged."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "Cpus_allowed_list":
            return parse_cpu_list(value)
    return None


def probe_cpu(context: Context) -> Iterator[Finding]:
    """Limits of ``cpu.usable``, and ``cpu.logical``, ``cpu.physical``, ``cpu.online``, ``cpu.model``, ``cpu.flags``.

    Nothing but files is read, so a recording gives everything that the node itself gives.
    """
    node = Node.of(context)
    online = parse_cpu_list(node.read(f"{_SYSFS}/online"))
    physical, source = _physical(node, online), f"{_SYSFS}/cpu*/topology"
    found = parse_cpuinfo(
        node.read("/proc/cpuinfo", limit_bytes=_ONE_PROCESSOR_BYTES if online and physical else _ALL_PROCESSORS_BYTES)
        or ""
    )
    if physical is None:
        physical, source = found.physical, "/proc/cpuinfo"
    present = parse_cpu_list(node.read(f"{_SYSFS}/present"))
    yield _count("cpu.logical", len(present or ()) or len(online or ()) or found.logical, f"{_SYSFS}/present")
    yield _count("cpu.online", len(online or ()) or found.logical, f"{_SYSFS}/online" if online else "/proc/cpuinfo")
    yield _count("cpu.physical", physical or 0, source)
    if found.model:
        yield Fact("cpu.model", found.model, source="/proc/cpuinfo")
    else:
        yield Fact.unknown("cpu.model", "/proc/cpuinfo names none", source="/proc/cpuinfo")
    if found.flags:
        yield Fact("cpu.flags", list(found.flags), source="/proc/cpuinfo")
    else:
        yield Fact.unknown("cpu.flags", "/proc/cpuinfo lists none", source="/proc/cpuinfo")
    limits = [*_kernel_limits(node, online, found.logical), *_given_limits(node, context)]
    if limits:
        yield from limits
    else:
        yield Fact.unknown(USABLE, "no source says how many cores there are: /proc and /sys could not be read")


def _count(name: str, number: int, source: str) -> Fact:
    if number:
        return Fact(name, number, UNIT, source=source)
    return Fact.unknown(name, f"{source} could not be read", source=source)


def _physical(node: Node, online: frozenset[int] | None) -> int | None:
    """Distinct cores by their thread siblings; None when the kernel does not list them for every processor."""
    siblings = {node.read(f"{_SYSFS}/cpu{cpu}/topology/thread_siblings_list", limit_bytes=4096) for cpu in online or ()}
    return len(siblings) or None if None not in siblings else None


def _kernel_limits(node: Node, online: frozenset[int] | None, listed: int) -> Iterator[Limit]:
    if online or listed:
        yield Limit(USABLE, len(online) if online else listed, UNIT, "online")
    allowed = parse_allowed(node.read("/proc/self/status") or "")
    if allowed:
        # The mask may name processors that the machine could have but does not.
        yield Limit(USABLE, len(allowed & online if online and allowed & online else allowed), UNIT, "affinity")
    for level in cgroup.levels(node, "cpu"):
        quota = cgroup.read_cpu_quota(node, level)
        if quota is not None:
            yield _quota_limit(quota[0], level.source(quota[1]))
    for height, level in enumerate(cgroup.levels(node, "cpuset")):
        members = parse_cpu_list(node.read(level.file("cpuset.cpus")))
        if not members and height == 0:
            members = _effective(node, level)
        if members:
            yield Limit(USABLE, len(members), UNIT, f"cpuset {level.path}")


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
    for bound in batch_bounds(read_allocations(node, context.environment), "cores"):
        yield Limit(USABLE, bound.number, UNIT, bound.source)
    configured = configured_integer(context.config, "site", "cpus")
    if configured is not None:
        yield Limit(USABLE, configured, UNIT, "configuration site.cpus")
