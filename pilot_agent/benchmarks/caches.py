"""How much the last-level caches of some processors hold, from what the kernel says of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from pilot_agent.files import read_bounded

LARGEST_INDEX = 8
"""Caches of one processor: two of the first level, and one of each further one."""
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def last_level_cache_bytes(root: str, processors: Iterable[int]) -> int | None:
    """All last-level caches of these processors together, each counted once; None where the kernel tells of none.

    Source: ``cache/index*`` of each processor (Documentation/ABI/testing/sysfs-devices-system-cpu).
    """
    found: dict[tuple[int, str], int] = {}
    for processor in processors:
        levels = [cache for index in range(LARGEST_INDEX) if (cache := _cache(root, processor, index)) is not None]
        if levels:
            level, shared_by, size = max(levels)
            found[level, shared_by] = size
    return sum(found.values()) or None


def _cache(root: str, processor: int, index: int) -> tuple[int, str, int] | None:
    """Level, the processors that share it, and bytes."""
    place = os.path.join(root, "sys/devices/system/cpu", f"cpu{processor}", "cache", f"index{index}")
    try:
        level, kind, size, shared_by = (
            read_bounded(os.path.join(place, name), limit_bytes=4096).decode("ascii", "replace").strip()
            for name in ("level", "type", "size", "shared_cpu_list")
        )
    except OSError:
        return None
    matched = re.fullmatch(r"([0-9]{1,12})([KMG]?)", size)
    if kind == "Instruction" or matched is None or not re.fullmatch(r"[1-9]", level):
        return None
    return int(level), shared_by, int(matched[1]) * _UNITS[matched[2]]
