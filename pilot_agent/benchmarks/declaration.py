"""What a declared benchmark may be: refused when its plugin is loaded, and not on a node in the middle of a start."""

from __future__ import annotations

import math
import os
from typing import get_args, get_type_hints

from pilot_agent.hookspecs import Benchmark
from pilot_agent.spelling import nearest

SHORTEST_PERIOD_SECONDS = 60.0
LONGEST_UNIT = 32
"""Characters of a unit: it stands in the ad and in tables."""


def problem_of(record: Benchmark) -> str:
    """What is wrong with a declared benchmark, apart from its function or program; empty when nothing is."""
    for found in (_word(record), _number(record), _result(record)):
        if found:
            return found
    if not record.version or not record.version.isprintable():
        return f"version={record.version!r} is no version"
    if len(record.unit) > LONGEST_UNIT or not record.unit.isprintable():
        return f"unit={record.unit!r} is no unit: {LONGEST_UNIT} printable characters at most"
    return ""


def _word(record: Benchmark) -> str:
    kinds = get_type_hints(Benchmark)
    for name in ("where", "cores", "when"):
        value, allowed = getattr(record, name), get_args(kinds[name])
        if value not in allowed:
            return f"{name}={value!r} is none of {', '.join(allowed)}{nearest(str(value), allowed)}"
    return ""


def _number(record: Benchmark) -> str:
    least = {"timeout_seconds": 0.1, "memory_mib": 1, "disk_mib": 0, "cache_days": 0}
    if record.when == "periodic":
        least["period_seconds"] = SHORTEST_PERIOD_SECONDS
    for name, minimum in least.items():
        value = getattr(record, name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{name}={value!r} is no number"
        if not math.isfinite(value) or value < minimum:
            return f"{name}={value!r} is less than {minimum:g}, or endless"
    return ""


def _result(record: Benchmark) -> str:
    if record.run and (record.result is not None or record.score_at != "score" or record.parts_at or record.unit):
        words = "result, score_at, parts_at and unit tell how a program's answer is read"
        return f"{words}; a function returns a BenchmarkScore"
    for name, way in (("score_at", record.score_at), ("parts_at", record.parts_at or "parts")):
        if not all(way.split(".")):
            return f"{name}={way!r} leads nowhere: names with dots between them are needed"
    if record.result is None:
        return ""
    path = os.path.normpath(record.result)
    if os.path.isabs(path) or path.split(os.sep)[0] in (os.pardir, os.curdir, ""):
        return f"result={record.result!r} is no file below the benchmark's own directory"
    return ""
