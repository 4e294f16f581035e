"""The control groups that bound this process: its own and every ancestor, in version 1, version 2 or both.

Rules: cgroups(7), Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst of the kernel. A limit of any ancestor
binds, so all are read. In a cgroup namespace only the part below its root can be seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pilot_agent.probes.mountinfo import Mount, read_mounts
from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import parse_integer

# Version 1 writes "no limit" as the largest multiple of the page size; nothing above an exbibyte is a limit.
_UNLIMITED_BYTES = 1 << 60
_MOST_CONTROLLERS = 64


@dataclass(frozen=True, slots=True)
class Level:
    """One control group: its hierarchy's version, its path there, and the directory it is seen at."""

    version: int
    path: str
    directory: str

    def file(self, name: str) -> str:
        """The path of one of its control files."""
        return f"{self.directory}/{name}"

    def source(self, name: str) -> str:
        """How a limit read from ``name`` is reported, such as ``cgroup2 cpu.max /a/b``."""
        return f"cgroup{self.version} {name} {self.path}"


@dataclass(frozen=True, slots=True)
class OwnGroup:
    """The group of this process in one hierarchy. ``controllers`` are those of the hierarchy in version 1, and those
    that the group may bound by in version 2; ``directory`` is None where this process does not see its own group."""

    version: int
    path: str
    controllers: tuple[str, ...]
    directory: str | None


def parse_memberships(text: str) -> tuple[tuple[tuple[str, ...], str], ...]:
    """Controllers and path of each line of ``/proc/self/cgroup`` in the kernel's form; version 2 names none."""
    found = []
    for line in text.splitlines():
        fields = line.split(":", 2)
        if len(fields) == 3 and fields[2].startswith("/"):
            found.append((tuple(name for name in fields[1].split(",") if name), fields[2]))
    return tuple(found)


def own_groups(node: Node) -> tuple[OwnGroup, ...]:
    """The groups of this process in all hierarchies that have controllers, and in version 2; in the kernel's order."""
    mounts = read_mounts(node)
    found = []
    for controllers, path in parse_memberships(node.read("/proc/self/cgroup") or ""):
        known = tuple(name for name in controllers if not name.startswith("name="))
        if controllers and not known:
            continue
        if known:
            hierarchy = [mount for mount in mounts if mount.kind == "cgroup" and known[0] in mount.options]
        else:
            hierarchy = [mount for mount in mounts if mount.kind == "cgroup2"]
        seen = _seen(node, path, hierarchy)
        directory = seen[0].point.rstrip("/") + seen[1] if seen else None
        if not known and directory is not None:
            known = tuple((node.read(f"{directory}/cgroup.controllers") or "").split()[:_MOST_CONTROLLERS])
        found.append(OwnGroup(1 if controllers else 2, path, known, directory))
    return tuple(found)


def levels(node: Node, controller: str) -> Iterator[Level]:
    """The control groups that may bound ``controller`` for this process, from its own up to the visible root."""
    memberships = parse_memberships(node.read("/proc/self/cgroup") or "")
    if not memberships:
        return
    mounts = read_mounts(node)
    for controllers, path in memberships:
        if controller in controllers:
            hierarchy = [mount for mount in mounts if mount.kind == "cgroup" and controller in mount.options]
            yield from _climb(node, 1, path, hierarchy)
        elif not controllers:
            yield from _climb(node, 2, path, [mount for mount in mounts if mount.kind == "cgroup2"])


def _climb(node: Node, version: int, path: str, mounts: Iterable[Mount]) -> Iterator[Level]:
    """From ``path`` to the root of the first mount that shows it; without one, what the first mount's root shows."""
    candidates = list(mounts)
    if not candidates:
        return
    mount, below = _seen(node, path, candidates) or (candidates[0], "")
    parts = [part for part in below.split("/") if part]
    prefix = "" if mount.root == "/" else mount.root
    for depth in range(len(parts), -1, -1):
        relative = "".join(f"/{part}" for part in parts[:depth])
        yield Level(version, (prefix + relative) or "/", mount.point.rstrip("/") + relative)


def _seen(node: Node, path: str, mounts: Iterable[Mount]) -> tuple[Mount, str] | None:
    """The first mount that shows the group at ``path``, and where below it; None when none does."""
    for mount in mounts:
        below = _below(mount.root, path)
        if below is not None and node.exists(mount.point.rstrip("/") + below):
            return mount, below
    return None


def _below(root: str, path: str) -> str | None:
    """``path`` relative to the mounted ``root``, with a leading slash or empty; None when it is not below it."""
    if ".." in path.split("/"):
        return None
    if root == "/":
        return path.rstrip("/")
    if path == root or path.startswith(root + "/"):
        return path[len(root) :].rstrip("/")
    return None


def parse_cpu_max(text: str | None) -> float | None:
    """The cores that ``cpu.max`` allows; None when it sets no limit or is damaged."""
    fields = (text or "").split()
    if not fields or len(fields) > 2:
        return None
    quota = parse_integer(fields[0])
    period = parse_integer(fields[1]) if len(fields) == 2 else 100_000
    return quota / period if quota and period else None


def read_cpu_quota(node: Node, level: Level) -> tuple[float, str] | None:
    """The cores a control group's quota allows, and the file that says so; None without a quota."""
    if level.version == 2:
        cores = parse_cpu_max(node.read(level.file("cpu.max")))
        return None if cores is None else (cores, "cpu.max")
    quota = node.read_integer(level.file("cpu.cfs_quota_us"))
    period = node.read_integer(level.file("cpu.cfs_period_us"))
    return (quota / period, "cfs_quota") if quota and period else None


def read_memory_bounds(node: Node, level: Level) -> Iterator[tuple[int, str]]:
    """The bytes of memory a control group allows, each with the file that says so.

    ``memory.high`` counts: beyond it the kernel slows a job down until it is as good as stopped.
    """
    names = ("memory.max", "memory.high") if level.version == 2 else ("memory.limit_in_bytes",)
    for name in names:
        number = node.read_integer(level.file(name))
        if number is not None and number < _UNLIMITED_BYTES:
            yield number, name


def read_hierarchical_limit(node: Node, level: Level) -> int | None:
    """The smallest memory limit of a version 1 group and its ancestors, bytes, also of those that cannot be seen."""
    limit = _from_statistics(node, level, "hierarchical_memory_limit")
    return limit if limit is not None and limit < _UNLIMITED_BYTES else None


def read_swap_bounds(node: Node, level: Level) -> Iterator[tuple[int, str]]:
    """The bytes of swap a control group allows, each with the file that says so.

    Version 1 bounds memory and swap together: what is left of that beside the group's memory limit is swap.
    """
    if level.version == 2:
        for name in ("memory.swap.max", "memory.swap.high"):
            number = node.read_integer(level.file(name))
            if number is not None and number < _UNLIMITED_BYTES:
                yield number, name
        return
    together = node.read_integer(level.file("memory.memsw.limit_in_bytes"))
    memory = node.read_integer(level.file("memory.limit_in_bytes"))
    if together is not None and together < _UNLIMITED_BYTES:
        kept = memory if memory is not None and memory < _UNLIMITED_BYTES else 0
        yield max(0, together - kept), "memsw.limit_in_bytes minus limit_in_bytes" if kept else "memsw.limit_in_bytes"


def _from_statistics(node: Node, level: Level, wanted: str) -> int | None:
    """A number in ``memory.stat`` of version 1."""
    for line in (node.read(level.file("memory.stat")) or "").splitlines():
        name, _, number = line.partition(" ")
        if name == wanted:
            return parse_integer(number)
    return None
