"""Reading a node below the directory that stands for its root: ``/``, or a recording of another machine.

A reader of a recording never leaves it, not through a link either, so a recorded machine gives the same facts
wherever it is looked at. Everything is bounded, and what cannot be read is None.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from pilot_agent.files import read_bounded
from pilot_agent.model import Json

READ_LIMIT_BYTES = 256 << 10
NOT_RECORDED = "not recorded: an active test needs the node itself"

# Eighteen digits fit in every integer type that a reader of the facts may use.
_MOST_DIGITS = 18
_MOST_CPUS = 1 << 16


@dataclass(frozen=True, slots=True)
class Node:
    """The files of a node; paths are absolute, as on the node itself."""

    root: str = "/"

    @property
    def live(self) -> bool:
        """True when this is the machine the pilot runs on, so that active tests are allowed."""
        return self.root.startswith("/") and not self.root.strip("/")

    def path(self, path: str) -> str | None:
        """Where ``path`` of the node is for this process; None when it leads out of a recording."""
        if "\0" in path:
            return None
        if self.live:
            return path
        root = os.path.realpath(self.root)
        real = os.path.realpath(os.path.join(root, os.path.normpath("/" + path).lstrip("/")))
        return real if real == root or real.startswith(root + os.sep) else None

    def read_bytes(self, path: str, *, limit_bytes: int = READ_LIMIT_BYTES) -> bytes | None:
        """The beginning of a file, or None when it is missing, unreadable or no file."""
        real = self.path(path)
        if real is None:
            return None
        try:
            return read_bounded(real, limit_bytes=limit_bytes)
        except OSError:
            return None

    def read(self, path: str, *, limit_bytes: int = READ_LIMIT_BYTES) -> str | None:
        """The beginning of a file as text; bytes that are no UTF-8 are replaced. None when it cannot be read."""
        content = self.read_bytes(path, limit_bytes=limit_bytes)
        return None if content is None else content.decode("utf-8", "replace")

    def read_line(self, path: str) -> str | None:
        """The first line of a file without blanks around it; None when it cannot be read or is empty."""
        lines = (self.read(path, limit_bytes=4096) or "").splitlines()
        return (lines[0].strip() or None) if lines else None

    def read_integer(self, path: str) -> int | None:
        """The number in a file that holds one; None otherwise."""
        return parse_integer(self.read(path, limit_bytes=4096))

    def names(self, path: str) -> list[str]:
        """The sorted names in a directory; empty when it cannot be listed."""
        real = self.path(path)
        if real is None:
            return []
        try:
            return sorted(os.listdir(real))
        except OSError:
            return []

    def exists(self, path: str) -> bool:
        """True when something is at ``path``."""
        real = self.path(path)
        return real is not None and os.path.exists(real)


def parse_integer(text: str | None) -> int | None:
    """A whole number of plain digits, blanks around it allowed; None for anything else."""
    digits = (text or "").strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS else None


def parse_cpu_list(text: str | None) -> frozenset[int] | None:
    """The members of a kernel list such as ``0-3,8,16-31:2/4``; None when it is damaged or empty.

    The format is that of bitmap lists in the kernel's documentation (``cpuset``, ``kernel-parameters``).
    """
    members: set[int] = set()
    for part in (text or "").strip().split(","):
        span, colon, stride = part.partition(":")
        begin, dash, end = span.partition("-")
        used, slash, group = stride.partition("/")
        numbers = [parse_integer(begin), parse_integer(end if dash else begin)]
        numbers += [parse_integer(used if colon else "1"), parse_integer(group if colon else "1")]
        first, last, taken, period = (-1 if number is None else number for number in numbers)
        if not 0 <= first <= last < _MOST_CPUS or not 0 < taken <= period or (colon and not (dash and slash)):
            return None
        members.update(cpu for cpu in range(first, last + 1) if (cpu - first) % period < taken)
    return frozenset(members)


def configured_integer(config: Mapping[str, Json], group: str, key: str) -> int | None:
    """The positive whole number configured as ``group.key``; None when there is none."""
    section = config.get(group)
    value = section.get(key) if isinstance(section, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
