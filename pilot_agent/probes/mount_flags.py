"""What a mount itself takes away, such as nosuid and nodev: not what its file system was mounted with."""

from __future__ import annotations

from collections.abc import Sequence

from pilot_agent.probes.mountinfo import Mount, mount_of, parse_mountinfo
from pilot_agent.probes.node import Node

Flagged = tuple[Mount, frozenset[str]]
"""A mount and its own options, field 6 of proc_pid_mountinfo(5)."""


def parse_flags(text: str) -> list[Flagged]:
    """The mounts in the kernel's order with their own options; lines that do not have its form are left out."""
    found = []
    for line in text.split("\n"):
        for mount in parse_mountinfo(line):
            found.append((mount, frozenset(line.split(" ")[5].split(","))))
    return found


def read_flags(node: Node) -> list[Flagged]:
    """The mounts that this process sees; none when the kernel's list cannot be read."""
    return parse_flags(node.read("/proc/self/mountinfo", limit_bytes=4 << 20) or "")


def flags_of(flagged: Sequence[Flagged], path: str) -> tuple[str, frozenset[str]]:
    """Mount point and options of the mount that ``path`` (links resolved) lies on; "/" and none when that is not
    known."""
    found = mount_of((mount for mount, _ in flagged), path)
    return next(((mount.point, flags) for mount, flags in flagged if mount is found), ("/", frozenset()))
