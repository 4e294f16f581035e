"""Versions that programs carry in their own files: a search in mapped memory takes a millisecond, a process ten."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pilot_agent.model import Json
from pilot_agent.probes.node import Node

STAMP_SECONDS = 3.0
_LIMIT_BYTES = 128 << 20
_MOST_HITS = 100
_LONGEST_BYTES = 200


@dataclass(frozen=True, slots=True)
class Stamp:
    """What to search for in a file: fixed text, and the form of what begins there; its first group is the version.

    ``mount`` is the mount point of the network file system that the file lies on; empty for a local one.
    """

    path: str
    text: bytes
    form: bytes
    mount: str = ""


def read_stamp(path: str, stamp: Stamp) -> str | None:
    """The version in a file; None when there is none in its beginning. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        size = min(os.fstat(descriptor).st_size, _LIMIT_BYTES)
        if not size:
            return None
        with mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) as content:
            return search_stamp(content, stamp)
    finally:
        os.close(descriptor)


def search_stamp(content: bytes | mmap.mmap, stamp: Stamp) -> str | None:
    """The version in the content of a file."""
    position = content.find(stamp.text)
    for _ in range(_MOST_HITS):
        if position < 0:
            return None
        found = re.match(stamp.form, content[position : position + _LONGEST_BYTES])
        if found:
            return found[1].decode("ascii", "replace")
        position = content.find(stamp.text, position + 1)
    return None


def read_stamps(node: Node, stamps: Iterable[Stamp]) -> Mapping[str, str]:
    """Path -> version, for those files that carry one.

    They are read in a child, as nobody knows how long that takes; those of each network file system in one of its own.
    """
    groups: dict[str, list[Stamp]] = {}
    for stamp in stamps:
        groups.setdefault(stamp.mount, []).append(stamp)

    def reading(group: Sequence[Stamp]) -> Callable[[], Json]:
        return lambda: {stamp.path: version for stamp in group if (version := stamp_of(node, stamp))}

    trials = {f"versions in files of {mount or 'the node'}": reading(group) for mount, group in groups.items()}
    answers = node.ask_all(trials, seconds=STAMP_SECONDS) if trials else {}
    found: dict[str, str] = {}
    for test, answer in answers.items():
        value = answer.value if answer.recorded else trials[test]()
        if isinstance(value, dict):
            found |= {str(path): version for path, version in value.items() if isinstance(version, str)}
    return found


def stamp_of(node: Node, stamp: Stamp) -> str | None:
    """The version in a file of the node, read here and now; None when there is none or it cannot be read."""
    real = node.path(stamp.path)
    try:
        return None if real is None else read_stamp(real, stamp)
    except (OSError, ValueError):
        return None
