"""Days: what an entry's pilots came to on each, and how long the pilots themselves are kept."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Executable, case, delete, func, insert, select
from sqlalchemy.orm import Session

from server_stub.factory.store import Store
from server_stub.factory.tables import (
    Base,
    ChangeRow,
    DayFailureRow,
    DayRow,
    EventsRow,
    LastWordsRow,
    PilotRow,
    ReportRow,
    ScoreRow,
    TokenRow,
)

DAY_SECONDS = 86400
AT_ONCE = 500
BELONGINGS = (ChangeRow, ReportRow, EventsRow, ScoreRow, LastWordsRow, TokenRow)


@dataclass(frozen=True, slots=True)
class Kept:
    """For how many days after its end a pilot's row is kept, and for how many its events and report."""

    pilots_days: int = 90
    documents_days: int = 30


@dataclass(frozen=True, slots=True)
class Tidied:
    """What one round of tidying did: how many days it counted, which pilots and how many documents it dropped."""

    days: int
    pilots: tuple[str, ...]
    documents: int


def tidy(store: Store, kept: Kept, *, now: float | None = None) -> Tidied:
    """Count the days that are not counted for good, then drop what is older than it is kept. Counts and what they were
    made of change in one step, so that wherever this is cut short nothing is lost and nothing counted twice."""
    moment = time.time() if now is None else now
    days = 0
    for day in _days_to_count(store, moment):
        count_day(store, day)
        days += 1
    documents = _drop_documents(store, moment - kept.documents_days * DAY_SECONDS)
    pilots = _drop_pilots(store, _start_of_day(moment - kept.pilots_days * DAY_SECONDS))
    return Tidied(days, pilots, documents)


def count_day(store: Store, day: int) -> None:
    """Count the pilots that ended on one day, which is given as its number since 1970; again, if it was counted."""
    name, began = day_name(day), float(day * DAY_SECONDS)
    ended = (PilotRow.ended >= began, PilotRow.ended < began + DAY_SECONDS)
    with store.write() as session:
        if session.scalar(select(func.count()).select_from(PilotRow).where(*ended)) == 0:
            return
        for table in (DayRow, DayFailureRow):
            session.execute(delete(table).where(table.day == name))
        rows = [{"day": name, **row} for row in session.execute(_totals(*ended)).mappings()]
        session.execute(insert(DayRow), rows)
        failures = [{"day": name, **row} for row in session.execute(_failures(*ended)).mappings()]
        if failures:
            session.execute(insert(DayFailureRow), failures)


def _totals(*ended: ColumnElement[bool]) -> Executable:
    def having(condition: ColumnElement[bool], name: str) -> ColumnElement[int]:
        return func.sum(case((condition, 1), else_=0)).label(name)

    def total(name: str) -> ColumnElement[float]:
        return func.coalesce(func.sum(getattr(PilotRow, name)), 0).label(name)

    outcomes = [having(PilotRow.outcome == outcome, outcome) for outcome in ("ok", "failed", "preempted")]
    names = ("jobs_started", "jobs_evicted", "validation_seconds", "busy_seconds", "idle_seconds")
    return (
        select(
            PilotRow.entry,
            func.count().label("pilots"),
            *outcomes,
            having(func.coalesce(PilotRow.jobs_started, 0) == 0, "without_job"),
            *map(total, names),
        )
        .where(*ended)
        .group_by(PilotRow.entry)
    )


def _failures(*ended: ColumnElement[bool]) -> Executable:
    return (
        select(
            PilotRow.entry,
            PilotRow.failure_kind.label("kind"),
            PilotRow.failure_code.label("code"),
            func.count().label("pilots"),
        )
        .where(*ended, PilotRow.failure_kind != "")
        .group_by(PilotRow.entry, PilotRow.failure_kind, PilotRow.failure_code)
    )


def _days_to_count(store: Store, now: float) -> Iterator[int]:
    """From the last day that was counted, which may not have been over, to today."""
    with store.read() as session:
        last = session.scalar(select(func.max(DayRow.day)))
        first = session.scalar(select(func.min(PilotRow.ended)))
    if first is None:
        return
    # A pilot's end is noted up to some minutes late: the day before the last may have got one more.
    began = int(first // DAY_SECONDS) if last is None else day_number(last) - 1
    yield from range(max(began, int(first // DAY_SECONDS)), int(now // DAY_SECONDS) + 1)


def _drop_documents(store: Store, before: float) -> int:
    """Drop events, reports and last words of pilots that ended before a moment."""
    dropped = 0
    old = select(PilotRow.id).where(PilotRow.ended < before)
    for table in (EventsRow, ReportRow, LastWordsRow):
        with store.write() as session:
            gone = session.execute(delete(table).where(table.pilot_id.in_(old)).returning(table.pilot_id)).all()
            dropped += len(gone)
    return dropped


def _drop_pilots(store: Store, before: float) -> tuple[str, ...]:
    """Drop pilots that ended before a day, some at a time: whoever reports meanwhile waits for none of it."""
    dropped: list[str] = []
    while True:
        with store.write() as session:
            query = (
                select(PilotRow.id).where(PilotRow.ended < before).order_by(PilotRow.ended, PilotRow.id).limit(AT_ONCE)
            )
            names = session.scalars(query).all()
            _delete(session, BELONGINGS, names)
            session.execute(delete(PilotRow).where(PilotRow.id.in_(names)))
        dropped += names
        if len(names) < AT_ONCE:
            return tuple(dropped)


def _delete(session: Session, tables: tuple[type[Base], ...], names: object) -> None:
    for table in tables:
        session.execute(delete(table).where(table.pilot_id.in_(names)))  # type: ignore[attr-defined]


def _start_of_day(moment: float) -> float:
    return moment // DAY_SECONDS * DAY_SECONDS


def day_name(day: int) -> str:
    """``YYYY-MM-DD`` of a day since 1970."""
    return (dt.date(1970, 1, 1) + dt.timedelta(days=day)).isoformat()


def day_number(name: str) -> int:
    """The days from 1970 to ``YYYY-MM-DD``. Raises ``ValueError``."""
    return (dt.date.fromisoformat(name) - dt.date(1970, 1, 1)).days
