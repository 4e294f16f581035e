"""What the factory knows of its pilots: one row for each, every change of its state, its report.

SQLite beside the other files of the factory; any database that SQLAlchemy speaks to is opened by the same code.
"""

from __future__ import annotations

import enum
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from sqlalchemy import JSON, ForeignKey, String, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

from pilot_agent.model import Json

BUSY_TIMEOUT_SECONDS = 30


class PilotState(enum.StrEnum):
    """Where a pilot is on its way, as its batch job tells it."""

    PREPARED = "prepared"
    QUEUED = "queued"
    RUNNING = "running"
    HELD = "held"
    ENDED = "ended"
    REMOVED = "removed"
    REFUSED = "refused"
    LOST = "lost"

    @property
    def final(self) -> bool:
        """True when nothing more will come."""
        return self in FINAL


FINAL = frozenset({PilotState.ENDED, PilotState.REMOVED, PilotState.REFUSED, PilotState.LOST})


@dataclass(frozen=True, slots=True)
class JobId:
    """A job of the batch system."""

    cluster: int
    process: int

    def __str__(self) -> str:
        return f"{self.cluster}.{self.process}"


@dataclass(frozen=True, slots=True)
class Pilot:
    """One pilot. Times are epoch seconds. ``exit_code`` is 128+N when signal N ended the job; ``outcome``,
    ``failure_kind``, ``failure_code`` and ``message`` come from its report, ``report`` says whether there is one;
    ``missing_since`` is set while the batch system does not know the job."""

    id: str
    entry: str
    site: str
    payload: str
    sha256: str
    state: PilotState
    submitted: float
    directory: str
    job: JobId | None = None
    ended: float | None = None
    missing_since: float | None = None
    exit_code: int | None = None
    host: str = ""
    outcome: str = ""
    failure_kind: str = ""
    failure_code: str = ""
    message: str = ""
    jobs_started: int | None = None
    report: bool = False


@dataclass(frozen=True, slots=True)
class Scores:
    """What the pilots of an entry scored in a benchmark on one model of processor, the smallest first."""

    benchmark: str
    unit: str
    entry: str
    cpu_model: str
    numbers: tuple[float, ...]


class _Base(DeclarativeBase):
    """All tables."""


class _PilotRow(_Base):
    __tablename__ = "pilots"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    entry: Mapped[str] = mapped_column(String(64), index=True)
    site: Mapped[str] = mapped_column(String(64))
    payload: Mapped[str] = mapped_column(String(64))
    sha256: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16), index=True)
    submitted: Mapped[float]
    directory: Mapped[str]
    cluster: Mapped[int | None]
    process: Mapped[int | None]
    ended: Mapped[float | None]
    missing_since: Mapped[float | None]
    exit_code: Mapped[int | None]
    host: Mapped[str] = mapped_column(default="")
    outcome: Mapped[str] = mapped_column(default="")
    failure_kind: Mapped[str] = mapped_column(default="")
    failure_code: Mapped[str] = mapped_column(default="")
    message: Mapped[str] = mapped_column(default="")
    jobs_started: Mapped[int | None]
    report: Mapped[bool] = mapped_column(default=False)


class _ChangeRow(_Base):
    __tablename__ = "changes"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    pilot_id: Mapped[str] = mapped_column(ForeignKey("pilots.id"), index=True)
    at: Mapped[float]
    state: Mapped[str] = mapped_column(String(16))


class _ReportRow(_Base):
    __tablename__ = "reports"

    pilot_id: Mapped[str] = mapped_column(ForeignKey("pilots.id"), primary_key=True)
    document: Mapped[dict[str, Any]] = mapped_column(JSON)


class Store:
    """The factory's memory; several processes may open it at once. Use as a context manager, or close it."""

    def __init__(self, url: str) -> None:
        options = {"timeout": BUSY_TIMEOUT_SECONDS} if url.startswith("sqlite") else {}
        self._engine = create_engine(url, connect_args=options)
        self._sessions = sessionmaker(self._engine)
        _Base.metadata.create_all(self._engine)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back the connections."""
        self._engine.dispose()

    def save(self, pilot: Pilot, *, report: Json = None) -> None:
        """Write a new pilot or a newer picture of a known one, and its report when there is one, in one step. A state
        that differs from the stored one is noted as a change."""
        with self._sessions.begin() as session:
            row = session.get(_PilotRow, pilot.id)
            changed = row is None or row.state != pilot.state
            if row is None:
                row = _PilotRow(id=pilot.id)
                session.add(row)
            _fill(row, pilot)
            session.flush()
            if changed:
                session.add(_ChangeRow(pilot_id=pilot.id, at=time.time(), state=pilot.state.value))
            if report is not None:
                session.merge(_ReportRow(pilot_id=pilot.id, document=report))

    def get(self, pilot_id: str) -> Pilot | None:
        """One pilot; None when there is none of that name."""
        with self._sessions() as session:
            row = session.get(_PilotRow, pilot_id)
            return _pilot(row) if row is not None else None

    def pilots(self, *, entry: str | None = None, unfinished: bool = False) -> list[Pilot]:
        """Pilots in the order of their submission: all, those of one entry, those of which more is to come."""
        query = select(_PilotRow).order_by(_PilotRow.submitted, _PilotRow.id)
        if entry is not None:
            query = query.where(_PilotRow.entry == entry)
        if unfinished:
            query = query.where(_PilotRow.state.not_in(_values(FINAL)))
        with self._sessions() as session:
            return [_pilot(row) for row in session.scalars(query)]

    def count_unfinished(self, entry: str) -> int:
        """How many pilots of an entry have not ended."""
        query = select(func.count()).select_from(_PilotRow)
        query = query.where(_PilotRow.entry == entry, _PilotRow.state.not_in(_values(FINAL)))
        with self._sessions() as session:
            return session.scalar(query) or 0

    def changes(self, pilot_id: str) -> list[tuple[float, PilotState]]:
        """When a pilot came into which state, oldest first."""
        query = select(_ChangeRow).where(_ChangeRow.pilot_id == pilot_id).order_by(_ChangeRow.number)
        with self._sessions() as session:
            return [(row.at, PilotState(row.state)) for row in session.scalars(query)]

    def scores(self) -> list[Scores]:
        """What pilots scored, by benchmark and unit, entry, and model of the processor."""
        found: dict[tuple[str, str, str, str], list[float]] = {}
        query = select(_PilotRow.entry, _ReportRow.document).join(_ReportRow, _ReportRow.pilot_id == _PilotRow.id)
        with self._sessions() as session:
            for entry, document in session.execute(query):
                model = _at(document, "node", "cpu", "model", "value")
                listed = document.get("benchmarks")
                for one in listed if isinstance(listed, list) else ():
                    number, name, unit = _at(one, "score"), _at(one, "name"), _at(one, "unit")
                    # A score that was kept on the node was counted with the pilot that measured it.
                    if _is_number(number) and _at(one, "cached") is not True:
                        key = (str(name), str(unit), entry, str(model or "unknown"))
                        found.setdefault(key, []).append(float(number))
        return [Scores(*key, tuple(sorted(numbers))) for key, numbers in sorted(found.items())]

    def report(self, pilot_id: str) -> dict[str, Json] | None:
        """The report of a pilot; None when it gave none."""
        with self._sessions() as session:
            row = session.get(_ReportRow, pilot_id)
            return dict(row.document) if row is not None else None


def _at(document: Json, *names: str) -> Json:
    """What lies below these names in what a pilot returned, which may be anything; None where nothing does."""
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _values(states: Iterable[PilotState]) -> list[str]:
    return sorted(state.value for state in states)


_SAME = (
    "entry", "site", "payload", "sha256", "submitted", "directory", "ended", "missing_since", "exit_code", "host",
    "outcome", "failure_kind", "failure_code", "message", "jobs_started", "report",
)  # fmt: skip


def _fill(row: _PilotRow, pilot: Pilot) -> None:
    for name in _SAME:
        setattr(row, name, getattr(pilot, name))
    row.state = pilot.state.value
    row.cluster = pilot.job.cluster if pilot.job else None
    row.process = pilot.job.process if pilot.job else None


def _pilot(row: _PilotRow) -> Pilot:
    job = JobId(row.cluster, row.process) if row.cluster is not None and row.process is not None else None
    return Pilot(id=row.id, state=PilotState(row.state), job=job, **{name: getattr(row, name) for name in _SAME})
