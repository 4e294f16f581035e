"""The parts of a suite's score: what its document says of each of its workloads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from pilot_agent.model import Json

MOST_PARTS = 32
DEEPEST = 3
LONGEST_NAME = 100


def parts_of(found: Json) -> dict[str, float]:
    """Every score in a mapping, also in mappings inside it (``{"gen": {"score": 1.5}}`` gives ``gen_score``); the first
    ``MOST_PARTS`` of them. What is no score, such as a text or a number below 0, is left out."""
    parts: dict[str, float] = {}
    for name, number in _walk(found, "", 0):
        if len(parts) >= MOST_PARTS:
            break
        parts.setdefault(name, number)
    return parts


def _walk(found: Json, name: str, depth: int) -> Iterator[tuple[str, float]]:
    if isinstance(found, Mapping) and depth < DEEPEST:
        for key, value in found.items():
            inner = f"{name}_{key}" if name else str(key)
            if len(inner) <= LONGEST_NAME:
                yield from _walk(value, inner, depth + 1)
    elif (
        name and isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found) and found >= 0
    ):
        yield name, float(found)
