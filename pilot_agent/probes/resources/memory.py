"""Memory: what the node has, and everything that bounds how much of it this pilot may use."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, Finding, Json, Limit
from pilot_agent.probes.batch.allocation import batch_bounds, read_allocations
from pilot_agent.probes.mountinfo import read_mounts
from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import configured_integer, parse_integer
from pilot_agent.probes.resources import cgroup

USABLE = "memory.usable_mib"
SWAP = "memory.swap_usable_mib"
UNIT = "MiB"
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - looked at, never written
SHARED_MEMORY_TEST = "statvfs /dev/shm"
HUGE_PAGES = "/sys/kernel/mm/hugepages"

_LIMITS = "/proc/self/limits"
_SIZE_UNITS = {"k": 10, "m": 20, "g": 30}
_MOST_PAGE_SIZES = 16


@dataclass(frozen=True, slots=True)
class HugePages:
    """The huge pages of one size: how many are reserved (nothing else may use their memory), and not yet taken."""

    page_kib: int
    pages: int
    free: int


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


def read_huge_pages(node: Node) -> tuple[HugePages, ...]:
    """The huge pages of every size that the kernel offers (Documentation/admin-guide/mm/hugetlbpage.rst)."""
    found = []
    for name in node.names(HUGE_PAGES)[:_MOST_PAGE_SIZES]:
        size = parse_integer(name.removeprefix("hugepages-").removesuffix("kB"))
        pages = node.read_integer(f"{HUGE_PAGES}/{name}/nr_hugepages")
        if size is not None and pages is not None:
            free = node.read_integer(f"{HUGE_PAGES}/{name}/free_hugepages") if pages else 0
            found.append(HugePages(size, pages, free or 0))
    return tuple(sorted(found, key=lambda each: each.page_kib))


def probe_memory(context: Context) -> Iterator[Finding]:
    """Limits of ``memory.usable_mib`` and ``memory.swap_usable_mib``, and what the node has.

    ``memory.total_mib``, ``available_mib``, ``swap_mib``, ``shm_mib``, ``limit_address_space_mib`` and
    ``reserve_mib`` are MiB; ``hugepages`` is a list of ``{page_kib, pages, reserved_mib, free_mib}``.
    """
    node = Node.of(context)
    listed = parse_meminfo(node.read("/proc/meminfo") or "")
    for name, key in (("total", "MemTotal"), ("available", "MemAvailable"), ("swap", "SwapTotal")):
        source = f"/proc/meminfo {key}"
        if key in listed:
            yield Fact(f"memory.{name}_mib", listed[key], UNIT, source=source)
        else:
            yield Fact.unknown(f"memory.{name}_mib", "the kernel's list does not have it", source=source)
    yield _shared_memory(node, listed.get("MemTotal"))
    huge = read_huge_pages(node)
    yield _huge_pages(node, huge, known=bool(listed))
    limits = node.read(_LIMITS)
    yield _address_space(limits)
    reserve = _reserve(context.config)
    yield Fact("memory.reserve_mib", reserve, UNIT, source="configuration site.memory_reserve_mib")
    groups = tuple(cgroup.levels(node, "memory"))
    reserved_mib = sum(each.pages * each.page_kib for each in huge) >> 10
    bounds = [*_node_bounds(listed, reserved_mib, limits), *_group_bounds(node, groups), *_given_bounds(node, context)]
    yield from _usable(bounds, reserve)
    yield from _swap(node, groups, listed)


def _usable(bounds: list[tuple[int, str]], reserve: int) -> Iterator[Finding]:
    """The bounds as limits, and one more: the smallest of them without what is kept for the pilot itself."""
    if not bounds:
        yield Fact.unknown(USABLE, "no source says how much memory there is: /proc/meminfo could not be read")
        return
    for number, source in bounds:
        yield Limit(USABLE, number, UNIT, source)
    if reserve:
        number, source = min(bounds, key=lambda bound: bound[0])
        kept = f"{reserve} MiB of configuration site.memory_reserve_mib"
        yield Limit(USABLE, max(0, number - reserve), UNIT, f"{source} without {kept}")


def _node_bounds(listed: Mapping[str, int], huge_mib: int, limits: str | None) -> Iterator[tuple[int, str]]:
    total = listed.get("MemTotal", 0)
    if total:
        yield total, "MemTotal"
        if 0 < huge_mib <= total:
            yield total - huge_mib, f"MemTotal without {huge_mib} MiB of reserved huge pages"
    address_space = parse_address_space(limits or "")
    if address_space is not None:
        yield address_space >> 20, "RLIMIT_AS"


def _group_bounds(node: Node, groups: tuple[cgroup.Level, ...]) -> Iterator[tuple[int, str]]:
    for level in groups:
        for number, name in cgroup.read_memory_bounds(node, level):
            yield number >> 20, level.source(name)
    own = next((level for level in groups if level.version == 1), None)
    hierarchical = cgroup.read_hierarchical_limit(node, own) if own else None
    if own is not None and hierarchical is not None:
        yield hierarchical >> 20, own.source("hierarchical_memory_limit")


def _given_bounds(node: Node, context: Context) -> Iterator[tuple[int, str]]:
    for bound in batch_bounds(read_allocations(node, context.environment), "memory_mib"):
        yield bound.number, bound.source
    configured = configured_integer(context.config, "site", "memory_mib")
    if configured is not None:
        yield configured, "configuration site.memory_mib"


def _reserve(config: Mapping[str, Json]) -> int:
    return configured_integer(config, "site", "memory_reserve_mib") or 0


def _swap(node: Node, groups: tuple[cgroup.Level, ...], listed: Mapping[str, int]) -> Iterator[Finding]:
    """What this pilot may have on disk beside its memory: the node's swap, and the bounds of its control groups."""
    limits = [Limit(SWAP, listed["SwapTotal"], UNIT, "SwapTotal")] if "SwapTotal" in listed else []
    for level in groups:
        for number, name in cgroup.read_swap_bounds(node, level):
            limits.append(Limit(SWAP, number >> 20, UNIT, level.source(name)))
    if limits:
        yield from limits
    else:
        yield Fact.unknown(SWAP, "no source says how much swap there is: /proc/meminfo could not be read")


def _huge_pages(node: Node, huge: tuple[HugePages, ...], *, known: bool) -> Fact:
    name = "memory.hugepages"
    if not huge and not known:
        return Fact.unknown(name, f"{HUGE_PAGES} could not be read", source=HUGE_PAGES)
    if not huge:
        return node.absence(name, f"this kernel offers none: no {HUGE_PAGES}", HUGE_PAGES, source=HUGE_PAGES)
    value: list[Json] = [
        {
            "page_kib": each.page_kib,
            "pages": each.pages,
            "reserved_mib": each.pages * each.page_kib >> 10,
            "free_mib": each.free * each.page_kib >> 10,
        }
        for each in huge
    ]
    return Fact(name, value, source=HUGE_PAGES)


def _address_space(limits: str | None) -> Fact:
    name, source = "memory.limit_address_space_mib", f"{_LIMITS} Max address space"
    number = parse_address_space(limits or "")
    if number is not None:
        return Fact(name, number >> 20, UNIT, source=source, detail="ulimit -v: binds each process, not their sum")
    if "Max address space" in (limits or ""):
        return Fact.absent(name, "it is unlimited", source=source)
    return Fact.unknown(name, f"{_LIMITS} could not be read", source=source)


def _shared_memory(node: Node, total_mib: int | None) -> Fact:
    """The size of ``/dev/shm``: asked of the file system, or in a recording without the answer read from the mount's
    options; a tmpfs without a size may take half of the memory (tmpfs(5))."""
    name = "memory.shm_mib"
    answer = node.ask(SHARED_MEMORY_TEST, _size_of_shared_memory, here=True)
    if isinstance(answer.value, int):
        return Fact(name, answer.value >> 20, UNIT, source=SHARED_MEMORY_TEST)
    if answer.problem.startswith("ENOENT"):
        return Fact.absent(name, f"there is no {SHARED_MEMORY}", source=SHARED_MEMORY_TEST)
    if answer.recorded:
        return Fact.unknown(name, answer.problem or "its answer cannot be read", source=SHARED_MEMORY_TEST)
    mounts = [mount for mount in read_mounts(node) if mount.point == SHARED_MEMORY]
    source = "/proc/self/mountinfo"
    size = parse_size_option(mounts[-1].options) if mounts else None
    if size is not None:
        return Fact(name, size >> 20, UNIT, source=source)
    if mounts and total_mib is not None and not any(option.startswith("size=") for option in mounts[-1].options):
        return Fact(name, total_mib // 2, UNIT, source=source, detail="no size is set: half of the memory")
    return Fact.unknown(name, answer.problem, source=source)


def _size_of_shared_memory() -> Json:
    status = os.statvfs(SHARED_MEMORY)
    return status.f_blocks * status.f_frsize
