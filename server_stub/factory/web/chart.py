"""What a chart is drawn from, as plain numbers: the templates only place it."""

from __future__ import annotations

from dataclasses import dataclass

from pilot_agent.model import Json
from server_stub.factory.overview import ScoreRange, Spent
from server_stub.factory.scores import at, is_number
from server_stub.factory.texts import shown

MOST_BARS = 200
WIDTH = 1000.0
STATUSES = frozenset({"ok", "failed", "skipped", "timeout"})
SHORTEST = 2.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One step of a pilot: where it begins and how long it is, in thousandths of the whole."""

    name: str
    stage: str
    status: str
    x: float
    width: float
    start: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """A pilot's steps; ``left_out`` are those beyond ``MOST_BARS``."""

    bars: tuple[Bar, ...]
    seconds: float
    left_out: int


def timeline(report: Json) -> Timeline:
    """The steps in what a pilot returned, which may be anything; what is no step is left out."""
    listed = at(report, "timeline")
    steps = [
        (step, float(at(step, "start")), float(at(step, "seconds")))
        for step in (listed if isinstance(listed, list) else ())
        if is_number(at(step, "start")) and is_number(at(step, "seconds"))
    ]
    steps = [(step, start, seconds) for step, start, seconds in steps if 0 <= start < 1e9 and 0 <= seconds < 1e9]
    whole = max((start + seconds for _, start, seconds in steps), default=0.0) or 1.0
    bars = tuple(_bar(step, start, seconds, whole) for step, start, seconds in steps[:MOST_BARS])
    return Timeline(bars, whole, len(steps) - len(bars))


def _bar(step: Json, start: float, seconds: float, whole: float) -> Bar:
    stage, what, status = (shown(at(step, name) or "") for name in ("stage", "what", "status"))
    width = max(SHORTEST, WIDTH * seconds / whole)
    x = min(WIDTH * start / whole, WIDTH - width)
    return Bar(
        what or stage, stage, status if status in STATUSES else "other", round(x, 1), round(width, 1), start, seconds
    )


@dataclass(frozen=True, slots=True)
class Range:
    """Scores of one entry on one processor, and where they lie between 0 and the largest of their benchmark."""

    scores: ScoreRange
    low: float
    middle: float
    high: float


def ranges(scores: list[ScoreRange]) -> dict[tuple[str, str], list[Range]]:
    """Scores by benchmark and unit, the best median first."""
    found: dict[tuple[str, str], list[Range]] = {}
    largest: dict[tuple[str, str], float] = {}
    for one in scores:
        key = (one.benchmark, one.unit)
        largest[key] = max(largest.get(key, 0.0), one.largest)
    for one in scores:
        key = (one.benchmark, one.unit)
        scale = WIDTH / largest[key] if largest[key] > 0 else 0.0
        places = (round(max(0.0, number * scale), 1) for number in (one.smallest, one.median, one.largest))
        found.setdefault(key, []).append(Range(one, *places))
    return {key: sorted(rows, key=lambda row: -row.scores.median) for key, rows in sorted(found.items())}


@dataclass(frozen=True, slots=True)
class Parts:
    """What an entry's time went to, in thousandths of it."""

    spent: Spent
    validation: float
    idle: float
    busy: float


def parts(spent: Spent) -> Parts:
    """As lengths that follow one another."""
    total = spent.validation_seconds + spent.idle_seconds + spent.busy_seconds
    scale = WIDTH / total if total else 0.0
    seconds = (spent.validation_seconds, spent.idle_seconds, spent.busy_seconds)
    return Parts(spent, *(round(one * scale, 1) for one in seconds))
