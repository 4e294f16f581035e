"""The results of benchmarks in what a pilot returned, which may be anything."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pilot_agent.model import Json
from server_stub.factory.pilots import Score
from server_stub.factory.texts import shown

MOST_SCORES = 100
NAME_CHARACTERS = 100


def scores_of(report: Json) -> list[Score]:
    """The scores that a pilot measured itself: one that was kept on the node was counted with the pilot that measured
    it. Of two with one name the first counts."""
    model = at(report, "node", "cpu", "model", "value")
    listed = at(report, "benchmarks")
    return read_scores(listed if isinstance(listed, list) else (), shown(model or "unknown"))


def read_scores(listed: Iterable[Json], cpu_model: str) -> list[Score]:
    """The scores in a list of benchmarks as a report holds it."""
    found: dict[str, Score] = {}
    for one in listed:
        number, name, unit = at(one, "score"), at(one, "name"), at(one, "unit")
        if is_number(number) and at(one, "cached") is not True and len(found) < MOST_SCORES:
            name = shown(name)[:NAME_CHARACTERS]
            found.setdefault(name, Score(name, shown(unit)[:NAME_CHARACTERS], float(number), cpu_model))
    return list(found.values())


def at(document: Json, *names: str) -> Json:
    """What lies below these names in what a pilot returned; None where nothing does."""
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def is_number(value: Json) -> bool:
    """A finite number that a column of any database holds."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) < 1e300 and math.isfinite(value)
