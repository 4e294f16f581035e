"""What the factory's pilots met lately, by entry: how they ended, how long they waited, what nodes scored and were.

All of it changes slowly and costs a look at a whole day: it is made once for everybody, and again when it is old.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from statistics import median
from typing import Any

from sqlalchemy import Integer, case, cast, func, or_, select

from pilot_agent.codec import to_json
from pilot_agent.model import Json
from server_stub.factory.history import DAY_SECONDS
from server_stub.factory.pilots import PilotState
from server_stub.factory.store import Store
from server_stub.factory.tables import NodeRow, PilotRow, ScoreRow

VALID_SECONDS = 60.0
SCORES_DAYS = 7
MOST_SCORES = 25_000
STEP_SECONDS = 10.0
KEPT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How pilots that ended in the last 24 hours did, and the jobs in them; ``jobs_failed`` could not be started."""

    pilots: int = 0
    pilots_failed: int = 0
    jobs: int = 0
    jobs_failed: int = 0


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What the last pilot on one node found, by the facts' names: each with its value, its unit where it has one, and
    its status unless it is known; and when (epoch seconds)."""

    at: float
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Experience:
    """By entry; an entry of which nothing is known is left out. ``seen`` are the ``nodes`` as JSON: they are most of
    what is told, and the same for everybody."""

    made: float = 0.0
    outcomes: Mapping[str, Outcomes] = field(default_factory=dict)
    start_seconds: Mapping[str, float] = field(default_factory=dict)
    benchmarks: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    nodes: Mapping[str, list[NodeFacts]] = field(default_factory=dict)
    seen: Mapping[str, str] = field(default_factory=dict)


class Experienced:
    """The newest experience. A running factory refreshes it beside what it answers; where nobody does, whoever asks
    waits for it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known = Experience()

    def get(self, *, now: float | None = None) -> Experience:
        """What is known, at most ``KEPT_SECONDS`` old."""
        moment = time.time() if now is None else now
        return self._known if 0 <= moment - self._known.made < KEPT_SECONDS else self.refresh(now=moment)

    def refresh(self, *, now: float | None = None) -> Experience:
        """What is known, at most ``VALID_SECONDS`` old."""
        moment = time.time() if now is None else now
        with self._lock:
            if not 0 <= moment - self._known.made < VALID_SECONDS:
                self._known = experience(self._store, now=moment)
            return self._known


def experience(store: Store, *, now: float) -> Experience:
    """Everything that the store knows of the last day, and of scores of the last week."""
    since = now - DAY_SECONDS
    nodes = _nodes(store)
    seen = {entry: json.dumps(to_json(some), separators=(",", ":")) for entry, some in nodes.items()}
    return Experience(now, _outcomes(store, since), _start_seconds(store, since), _benchmarks(store, now), nodes, seen)


def _outcomes(store: Store, since: float) -> dict[str, Outcomes]:
    failed = func.sum(case((PilotRow.outcome == "failed", 1), else_=0))
    lost = func.sum(case((PilotRow.state == PilotState.LOST.value, 1), else_=0))
    jobs = func.coalesce(func.sum(PilotRow.jobs_started), 0), func.coalesce(func.sum(PilotRow.jobs_failed), 0)
    query = select(PilotRow.entry, func.count(), failed + lost, *jobs)
    # One that was taken back says nothing of its entry, unless that was for its failure.
    told = or_(PilotRow.state != PilotState.REMOVED.value, PilotRow.outcome == "failed")
    query = query.where(PilotRow.ended >= since, told)
    with store.read() as session:
        return {row[0]: Outcomes(*map(int, row[1:])) for row in session.execute(query.group_by(PilotRow.entry))}


def _start_seconds(store: Store, since: float) -> dict[str, float]:
    """How long half of the pilots that were submitted lately took to begin, to ``STEP_SECONDS``; those that still wait
    do not count. The database counts them by steps: a day's pilots are too many to be looked at one by one."""
    took = PilotRow.started - PilotRow.submitted
    step = cast(func.coalesce(case((took > 0, took), else_=0), 0) / STEP_SECONDS, Integer)
    query = select(PilotRow.entry, step, func.count()).group_by(PilotRow.entry, step).order_by(PilotRow.entry, step)
    query = query.where(PilotRow.submitted >= since, PilotRow.started.is_not(None))
    with store.read() as session:
        rows = session.execute(query).all()
    return {
        entry: (_median_step([(row[1], row[2]) for row in some]) + 0.5) * STEP_SECONDS
        for entry, some in groupby(rows, itemgetter(0))
    }


def _median_step(counted: Sequence[tuple[int, int]]) -> int:
    """The step in which the middle one of all lies."""
    left = (sum(number for _, number in counted) + 1) // 2
    for step, number in counted:
        left -= number
        if left <= 0:
            return step
    return 0


def _benchmarks(store: Store, now: float) -> dict[str, dict[str, float]]:
    query = select(ScoreRow.entry, ScoreRow.benchmark, ScoreRow.number)
    query = query.where(ScoreRow.at >= now - SCORES_DAYS * DAY_SECONDS)
    with store.read() as session:
        rows = session.execute(query.order_by(ScoreRow.at.desc()).limit(MOST_SCORES)).all()
    found: dict[str, dict[str, float]] = {}
    for (entry, benchmark), numbers in _grouped([((row[0], row[1]), row[2]) for row in rows]).items():
        found.setdefault(entry, {})[benchmark] = median(numbers)
    return found


def _grouped(rows: Any) -> dict[Any, list[float]]:
    return {key: [row[1] for row in some] for key, some in groupby(sorted(rows, key=itemgetter(0)), itemgetter(0))}


def _nodes(store: Store) -> dict[str, list[NodeFacts]]:
    query = select(NodeRow.entry, NodeRow.at, NodeRow.facts).order_by(NodeRow.entry, NodeRow.at.desc())
    found: dict[str, list[NodeFacts]] = {}
    with store.read() as session:
        for entry, moment, facts in session.execute(query):
            known: dict[str, Json] = facts
            found.setdefault(entry, []).append(NodeFacts(moment, known))
    return found
