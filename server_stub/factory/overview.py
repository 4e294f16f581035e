"""What pages and programs ask of the store: pilots by filters, counts by entry, causes of failures, waste by entry."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from sqlalchemy import ColumnElement, func, select, tuple_
from sqlalchemy import Row as SqlRow

from server_stub.factory.history import DAY_SECONDS, day_name
from server_stub.factory.pilots import Pilot, PilotState
from server_stub.factory.silence import SILENT, is_silent
from server_stub.factory.store import Store, pilot_of
from server_stub.factory.tables import DayRow, PilotRow, ScoreRow

MOST_PILOTS = 1000
MOST_CAUSES = 500


@dataclass(frozen=True, slots=True)
class Filters:
    """Which pilots: those that match everything that is given."""

    entry: str = ""
    site: str = ""
    state: str = ""
    outcome: str = ""
    kind: str = ""
    code: str = ""
    host: str = ""
    vo: str = ""
    frontend: str = ""
    silent_before: float | None = None
    """Since when a pilot that is not ``silent`` was heard, epoch seconds; no filter of its own."""

    def where(self) -> list[ColumnElement[bool]]:
        """As conditions; what was given is only ever compared with, and no part of a statement."""
        return [self._condition(name, value) for name, value in self.given().items()]

    def _condition(self, name: str, value: str) -> ColumnElement[bool]:
        if (name, value) == ("state", SILENT):
            return is_silent(self.silent_before)
        columns = {"kind": PilotRow.failure_kind, "code": PilotRow.failure_code}
        column: Any = columns.get(name, getattr(PilotRow, name, None))
        equal: ColumnElement[bool] = column == value
        return equal

    def given(self) -> dict[str, str]:
        """Those that are."""
        names = (name for name in self.__dataclass_fields__ if name != "silent_before")
        return {name: value for name in names if (value := getattr(self, name))}


@dataclass(frozen=True, slots=True)
class PilotPage:
    """Some pilots, the newest first; ``after`` asks for the next ones, and is empty where there are none."""

    pilots: list[Pilot]
    after: str = ""


@dataclass(frozen=True, slots=True)
class Cause:
    """So many pilots of an entry failed on a host by one cause, the last of them at ``last`` (epoch seconds)."""

    kind: str
    code: str
    entry: str
    host: str
    pilots: int
    last: float


@dataclass(frozen=True, slots=True)
class Spent:
    """What an entry's pilots came to and what their time went to; pilots without a job count as wasted whole."""

    entry: str
    pilots: int
    failed: int
    without_job: int
    jobs_started: int
    jobs_evicted: int
    validation_seconds: float
    busy_seconds: float
    idle_seconds: float

    @property
    def wasted(self) -> float | None:
        """The part of the time that no job used; None where no time is known."""
        total = self.validation_seconds + self.busy_seconds + self.idle_seconds
        return (self.validation_seconds + self.idle_seconds) / total if total else None


@dataclass(frozen=True, slots=True)
class ScoreRange:
    """What so many pilots of an entry scored in a benchmark on one model of processor."""

    benchmark: str
    unit: str
    entry: str
    cpu_model: str
    pilots: int
    smallest: float
    median: float
    largest: float


def pilots(store: Store, filters: Filters, *, limit: int = 100, after: str = "") -> PilotPage:
    """Some pilots, the newest first."""
    query = select(PilotRow).where(*filters.where())
    if after:
        moment, _, name = after.partition("~")
        query = query.where(tuple_(PilotRow.submitted, PilotRow.id) < (_number(moment), name))
    query = query.order_by(PilotRow.submitted.desc(), PilotRow.id.desc()).limit(limit + 1)
    with store.read() as session:
        found = [pilot_of(row) for row in session.scalars(query)]
    shown = found[:limit]
    more = f"{shown[-1].submitted!r}~{shown[-1].id}" if len(found) > limit and shown else ""
    return PilotPage(shown, more)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def states(store: Store, filters: Filters | None = None) -> dict[str, int]:
    """How many pilots are in which state; those that run and are silent once more by themselves, if there are any."""
    chosen = filters or Filters()
    query = select(PilotRow.state, func.count()).where(*chosen.where()).group_by(PilotRow.state)
    still = select(func.count()).select_from(PilotRow).where(*chosen.where(), is_silent(chosen.silent_before))
    with store.read() as session:
        found = dict(map(_pair, session.execute(query)))
        silent = session.scalar(still) if chosen.silent_before is not None else 0
    return {**found, SILENT: silent} if silent else found


def _pair(row: SqlRow[str, int]) -> tuple[str, int]:
    return row[0], row[1]


def entry_states(store: Store) -> dict[str, dict[PilotState, int]]:
    """How many pilots of each entry are in which state."""
    query = select(PilotRow.entry, PilotRow.state, func.count()).group_by(PilotRow.entry, PilotRow.state)
    found: dict[str, dict[PilotState, int]] = {}
    with store.read() as session:
        for entry, state, number in session.execute(query):
            found.setdefault(entry, {})[PilotState(state)] = number
    return found


def causes(store: Store, filters: Filters, *, since: float = 0.0) -> list[Cause]:
    """Why pilots failed, the most frequent first, at most ``MOST_CAUSES``."""
    columns = (PilotRow.failure_kind, PilotRow.failure_code, PilotRow.entry, PilotRow.host)
    number = func.count()
    query = select(*columns, number, func.max(PilotRow.ended)).where(PilotRow.failure_kind != "", *filters.where())
    if since:
        query = query.where(PilotRow.ended >= since)
    query = query.group_by(*columns).order_by(number.desc(), *columns).limit(MOST_CAUSES)
    with store.read() as session:
        return [Cause(*row[:5], row[5] or 0.0) for row in session.execute(query)]


def score_ranges(store: Store, *, benchmark: str = "", entry: str = "", since: float = 0.0) -> list[ScoreRange]:
    """What pilots scored that were submitted since a moment, by benchmark and unit, entry, and model of the processor.
    The database groups them in the order of an index: to bring each score here by itself took ten times as long."""
    key = (ScoreRow.benchmark, ScoreRow.unit, ScoreRow.entry, ScoreRow.cpu_model)
    named = [column == value for column, value in ((ScoreRow.benchmark, benchmark), (ScoreRow.entry, entry)) if value]
    gather = func.array_agg if store.engine.dialect.name == "postgresql" else func.json_group_array
    query = select(*key, gather(ScoreRow.number)).where(ScoreRow.at >= since, *named).group_by(*key).order_by(*key)
    with store.read() as session:
        return [_score_range(tuple(row)) for row in session.execute(query)]


def _score_range(row: Sequence[Any]) -> ScoreRange:
    benchmark, unit, entry, model, told = row
    numbers: list[float] = sorted(json.loads(told) if isinstance(told, str) else told)
    return ScoreRange(benchmark, unit, entry, model, len(numbers), numbers[0], median(numbers), numbers[-1])


def spent(store: Store, *, since: float) -> dict[str, Spent]:
    """What each entry's pilots came to on the days from that of ``since`` on."""
    names = [name for name in Spent.__dataclass_fields__ if name != "entry"]
    totals = [func.sum(getattr(DayRow, name)) for name in names]
    query = select(DayRow.entry, *totals).where(DayRow.day >= day_name(int(since // DAY_SECONDS)))
    with store.read() as session:
        return {row[0]: Spent(*row) for row in session.execute(query.group_by(DayRow.entry))}
