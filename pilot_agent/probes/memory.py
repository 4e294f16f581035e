"""Memory: what the node has, and everything that bounds how much of it this pilot may use."""

from __future__ import annotations

import os
from collections.abc import Iterator

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, Finding, Limit
from pilot_agent.probes import cgroup
from pilot_agent.probes.allocation import batch_bounds, read_allocations
from pilot_agent.probes.answers import NOT_RECORDED
from pilot_agent.probes.mountinfo import read_mounts
from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import configured_integer, parse_integer

USABLE = "memory.usable_mib"
UNIT = "MiB"
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - looked at, never written

_SIZE_UNITS = {"k": 10, "m": 20, "g": 30}


def parse_meminfo(text: str) -> dict[str, int]:
    """``/proc/meminfo`` as name -> MiB, rounded down; lines in another form are left out."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        fields = rest.split()
        number = parse_integer(fields[0]) if len(fields) == 2 and fields[1] == "kB" else None
        if number is not None:
            found[name] = number >> 10
    return found


def parse_address_space(text: str) -> int | None:
    """The soft limit of the address space in ``/proc/self/limits``, bytes; None when it is unlimited."""
    for line in text.splitlines():
        if line.startswith("Max address space"):
            fields = line[len("Max address space") :].split()
            return parse_integer(fields[0]) if fields else None
    return None


def parse_size_option(options: tuple[str, ...]) -> int | None:
    """The bytes that a tmpfs's ``size=`` option allows; None when it has none in numbers."""
    for option in options:
        name, _, value = option.partition("=")
        if name == "size" and value:
            shift = _SIZE_UNITS.get(value[-1].lower())
            number = parse_integer(value if shift is None else value[:-1])
            return None if number is None else number << (shift or 0)
    return None


def probe_memory(context: Context) -> Iterator[Finding]:
    """Limits of ``memory.usable_mib``, and ``memory.total_mib``, ``available_mib``, ``swap_mib``, ``shm_mib``."""
    node = Node.of(context)
    listed = parse_meminfo(node.read("/proc/meminfo") or "")
    for name, key in (("total", "MemTotal"), ("available", "MemAvailable"), ("swap", "SwapTotal")):
        source = f"/proc/meminfo {key}"
        if key in listed:
            yield Fact(f"memory.{name}_mib", listed[key], UNIT, source=source)
        else:
            yield Fact.unknown(f"memory.{name}_mib", "the kernel's list does not have it", source=source)
    yield _shared_memory(node, listed.get("MemTotal"))
    limits = [
        Limit(USABLE, number, UNIT, source) for number, source in _bounds(node, context, listed.get("MemTotal", 0))
    ]
    if limits:
        yield from limits
    else:
        yield Fact.unknown(USABLE, "no source says how much memory there is: /proc/meminfo could not be read")


def _bounds(node: Node, context: Context, total: int) -> Iterator[tuple[int, str]]:
    if total:
        yield total, "MemTotal"
    for level in cgroup.levels(node, "memory"):
        for number, name in cgroup.read_memory_bounds(node, level):
            yield number >> 20, level.source(name)
    own = next((level for level in cgroup.levels(node, "memory") if level.version == 1), None)
    hierarchical = cgroup.read_hierarchical_limit(node, own) if own else None
    if own is not None and hierarchical is not None:
        yield hierarchical >> 20, own.source("hierarchical_memory_limit")
    address_space = parse_address_space(node.read("/proc/self/limits") or "")
    if address_space is not None:
        yield address_space >> 20, "RLIMIT_AS"
    for bound in batch_bounds(read_allocations(node, context.environment), "memory_mib"):
        yield bound.number, bound.source
    configured = configured_integer(context.config, "site", "memory_mib")
    if configured is not None:
        yield configured, "configuration site.memory_mib"


def _shared_memory(node: Node, total_mib: int | None) -> Fact:
    """The size of ``/dev/shm``: asked of the file system, or in a recording read from the mount's options; a tmpfs
    without a size may take half of the memory (tmpfs(5))."""
    name = "memory.shm_mib"
    if node.live:
        try:
            status = os.statvfs(SHARED_MEMORY)
        except OSError as error:
            return Fact.absent(name, f"{SHARED_MEMORY}: {error.strerror}", source="statvfs")
        return Fact(name, status.f_blocks * status.f_frsize >> 20, UNIT, source=f"statvfs {SHARED_MEMORY}")
    mounts = [mount for mount in read_mounts(node) if mount.point == SHARED_MEMORY]
    source = "/proc/self/mountinfo"
    size = parse_size_option(mounts[-1].options) if mounts else None
    if size is not None:
        return Fact(name, size >> 20, UNIT, source=source)
    if mounts and total_mib is not None and not any(option.startswith("size=") for option in mounts[-1].options):
        return Fact(name, total_mib // 2, UNIT, source=source, detail="no size is set: half of the memory")
    return Fact.unknown(name, NOT_RECORDED, source=source)
