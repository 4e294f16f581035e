"""What the factory knows of its pilots: one row for each, every change of its state, and all that the pilot sent.

SQLite beside the other files of the factory, or PostgreSQL: the same code. What a method was given is on the disk when
it returns.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Row as SqlRow
from sqlalchemy import bindparam, delete, func, insert, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from pilot_agent.model import Json
from server_stub.factory.database import BUSY_TIMEOUT_SECONDS, open_database, writing
from server_stub.factory.nodes import facts_of, note_node
from server_stub.factory.pilots import FINAL, JobId, Pilot, PilotState, Score, Scores
from server_stub.factory.scores import scores_of
from server_stub.factory.tables import (
    ChangeRow,
    EntryRow,
    EventsRow,
    LastWordsRow,
    Packed,
    PilotRow,
    ReportRow,
    ScoreRow,
    TokenRow,
    pack_json,
)

MOST_SCORES_SHOWN = 200_000
HEARD_SECONDS = 5.0


class Store:
    """The factory's memory; several processes may open it at once. Use as a context manager, or close it."""

    def __init__(self, url: str) -> None:
        self.engine = open_database(url)
        self._reading = sessionmaker(self.engine)
        self._writing = sessionmaker(writing(self.engine))
        self._one_writes = threading.Lock() if self.engine.dialect.name == "sqlite" else None
        self._hearing = threading.Lock()
        self._heard: dict[str, float] = {}
        self._heard_due = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what waits, and give back the connections."""
        with suppress(SQLAlchemyError):
            self.write_heard()
        self.engine.dispose()

    def read(self) -> Session:
        """A session for questions; use as a context manager."""
        return self._reading()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction, which is committed at the end of the ``with`` block unless it raises.

        With SQLite the threads of a process come one after the other: SQLite itself would let each that waits look
        again and again, and the unlucky ones wait for long."""
        own = self._one_writes is not None and self._one_writes.acquire(timeout=BUSY_TIMEOUT_SECONDS)
        try:
            with self._writing.begin() as session:
                yield session
        finally:
            if own and self._one_writes is not None:
                self._one_writes.release()

    def save(self, pilot: Pilot, *, known: Pilot | None = None, report: Json = None) -> None:
        """Write a new pilot or a newer picture of a known one, and its report when there is one, in one step. A state
        that differs from the stored one is noted as a change.

        With ``known``, the picture from which ``pilot`` was made, only what differs between the two is written: what
        others wrote meanwhile, as the pilot itself does, stays.
        """
        told = None if report is None else _Told(Packed(pack_json(report)), facts_of(report), scores_of(report), report)
        with self.write() as session:
            row = session.get(PilotRow, pilot.id)
            changed = row is None or (row.state != pilot.state and (known is None or known.state != pilot.state))
            if row is None:
                row = PilotRow(id=pilot.id)
                session.add(row)
                known = None
            _fill(row, pilot, known)
            session.flush()
            if changed:
                session.add(ChangeRow(pilot_id=pilot.id, at=time.time(), state=pilot.state.value))
            if told is not None:
                _take_report(session, pilot, told)

    def get(self, pilot_id: str) -> Pilot | None:
        """One pilot; None when there is none of that name."""
        with self._reading() as session:
            row = session.get(PilotRow, pilot_id)
            return pilot_of(row) if row is not None else None

    def pilots(self, *, entry: str | None = None, unfinished: bool = False) -> list[Pilot]:
        """Pilots in the order of their submission: all, those of one entry, those of which more is to come."""
        # Columns instead of rows that the session watches: of a hundred thousand pilots that takes a third of the time.
        query = select(*PilotRow.__table__.columns).order_by(PilotRow.submitted, PilotRow.id)
        if entry is not None:
            query = query.where(PilotRow.entry == entry)
        if unfinished:
            query = query.where(PilotRow.state.not_in(values(FINAL)))
        with self._reading() as session:
            return [pilot_of(row) for row in session.execute(query)]

    def count_unfinished(self, entry: str) -> int:
        """How many pilots of an entry have not ended."""
        return sum(number for state, number in self.states(entry).items() if not state.final)

    def states(self, entry: str, *, vo: str | None = None, frontend: str | None = None) -> dict[PilotState, int]:
        """How many pilots of an entry, or of one VO or frontend there, are in which state."""
        query = select(PilotRow.state, func.count()).where(PilotRow.entry == entry).group_by(PilotRow.state)
        if vo is not None:
            query = query.where(PilotRow.vo == vo)
        if frontend is not None:
            query = query.where(PilotRow.frontend == frontend)
        with self._reading() as session:
            return {PilotState(state): number for state, number in session.execute(query)}

    def count_submitted_since(self, entry: str, moment: float) -> int:
        """How many pilots were submitted to an entry since a moment."""
        query = select(func.count()).select_from(PilotRow)
        with self._reading() as session:
            return session.scalar(query.where(PilotRow.entry == entry, PilotRow.submitted >= moment)) or 0

    def changes(self, pilot_id: str) -> list[tuple[float, PilotState]]:
        """When a pilot came into which state, oldest first."""
        query = select(ChangeRow).where(ChangeRow.pilot_id == pilot_id).order_by(ChangeRow.number)
        with self._reading() as session:
            return [(row.at, PilotState(row.state)) for row in session.scalars(query)]

    def scores(self, *, benchmark: str | None = None, entry: str | None = None) -> list[Scores]:
        """What pilots scored, by benchmark and unit, entry, and model of the processor; the newest
        ``MOST_SCORES_SHOWN`` count."""
        query = select(ScoreRow.benchmark, ScoreRow.unit, ScoreRow.entry, ScoreRow.cpu_model, ScoreRow.number)
        if benchmark is not None:
            query = query.where(ScoreRow.benchmark == benchmark)
        if entry is not None:
            query = query.where(ScoreRow.entry == entry)
        found: dict[tuple[str, str, str, str], list[float]] = {}
        with self._reading() as session:
            for *key, number in session.execute(query.order_by(ScoreRow.at.desc()).limit(MOST_SCORES_SHOWN)):
                found.setdefault((key[0], key[1], key[2], key[3]), []).append(number)
        return [Scores(*key, tuple(sorted(numbers))) for key, numbers in sorted(found.items())]

    def report(self, pilot_id: str) -> dict[str, Json] | None:
        """The report of a pilot; None when it gave none."""
        with self._reading() as session:
            row = session.get(ReportRow, pilot_id)
            return dict(row.document) if row is not None else None

    def add_events(self, pilot_id: str, lines: bytes, *, upto: int, dropped: int, limit_bytes: int) -> bool:
        """Keep lines of a pilot's event log, which end at ``upto`` in it. What came already is left as it is; False
        when all its events together would be more than ``limit_bytes``."""
        now = time.time()
        with self.write() as session:
            row = session.get(PilotRow, pilot_id)
            if row is None or row.event_bytes + len(lines) > limit_bytes:
                return False
            row.seen = now
            if session.get(EventsRow, (pilot_id, upto)) is None:
                packed = zlib.compress(lines, 3)
                session.add(EventsRow(pilot_id=pilot_id, upto=upto, received=now, dropped=dropped, lines=packed))
                row.event_bytes += len(lines)
        return True

    def events(self, pilot_id: str, *, newest_first: bool = False) -> Iterable[bytes]:
        """The lines of a pilot's event log that came, in pieces, which come in their order or the last one first."""
        order = EventsRow.upto.desc() if newest_first else EventsRow.upto
        query = select(EventsRow.upto).where(EventsRow.pilot_id == pilot_id).order_by(order)
        with self._reading() as session:
            places = session.scalars(query).all()
        for place in places:
            with self._reading() as session:
                row = session.get(EventsRow, (pilot_id, place))
            if row is not None:
                yield zlib.decompress(row.lines)

    def heard(self, pilot_id: str) -> None:
        """The pilot said that it lives. Alone of all that is written this waits for others of its kind, for up to
        ``HEARD_SECONDS``: of very many pilots each says so, and none needs a place on the disk of its own."""
        now = time.monotonic()
        with self._hearing:
            self._heard[pilot_id] = time.time()
            due = now >= self._heard_due
            self._heard_due = now + HEARD_SECONDS if due else self._heard_due
        if due:
            self.write_heard()

    def write_heard(self) -> None:
        """Write which pilots lived when, as far as that waits."""
        with self._hearing:
            heard, self._heard = self._heard, {}
        if heard:
            rows = [{"name": name, "moment": moment} for name, moment in heard.items()]
            since = or_(PilotRow.seen.is_(None), PilotRow.seen < bindparam("moment"))
            newer = update(PilotRow).where(PilotRow.id == bindparam("name"), since).values(seen=bindparam("moment"))
            with self.write() as session:
                session.connection().execute(newer, rows)

    def add_scores(self, pilot: Pilot, scores: Iterable[Score]) -> None:
        """Results of benchmarks that a pilot sent before its report; a newer one of the same name replaces them."""
        with self.write() as session:
            _take_scores(session, pilot, scores)
            session.execute(update(PilotRow).where(PilotRow.id == pilot.id).values(seen=time.time()))

    def add_last_words(self, pilot_id: str, text: str) -> None:
        """What a pilot said in the end; later words replace earlier ones."""
        now = time.time()
        with self.write() as session:
            session.merge(LastWordsRow(pilot_id=pilot_id, at=now, text=text))
            session.execute(update(PilotRow).where(PilotRow.id == pilot_id).values(seen=now))

    def last_words(self, pilot_id: str) -> str:
        """What a pilot said in the end, or nothing."""
        with self._reading() as session:
            row = session.get(LastWordsRow, pilot_id)
            return row.text if row is not None else ""

    def close_entry(self, name: str, reason: str) -> None:
        """Submit nothing to an entry until it is opened, which is done with no reason."""
        with self.write() as session:
            session.merge(EntryRow(name=name, closed=reason, changed=time.time()))

    def closed_entries(self) -> dict[str, str]:
        """The entries that an operator closed, with the reason."""
        with self._reading() as session:
            rows = session.scalars(select(EntryRow).where(EntryRow.closed != "")).all()
            return {row.name: row.closed for row in rows}

    def note_token(self, jti: str, pilot_id: str, *, issued: float, expires: float) -> None:
        """A token was issued."""
        with self.write() as session:
            session.add(TokenRow(jti=jti, pilot_id=pilot_id, issued=issued, expires=expires, revoked=None))

    def token_counts(self, jti: str, pilot_id: str) -> bool:
        """Whether this token was issued for this pilot and not revoked."""
        with self._reading() as session:
            row = session.get(TokenRow, jti)
            return row is not None and row.pilot_id == pilot_id and row.revoked is None

    def revoke(self, *, jti: str | None = None, pilot_id: str | None = None) -> int:
        """Let one token, or all of one pilot, count no more; how many that were."""
        change = update(TokenRow).where(TokenRow.revoked.is_(None))
        change = change.where(TokenRow.jti == jti) if jti is not None else change.where(TokenRow.pilot_id == pilot_id)
        with self.write() as session:
            found = session.scalars(change.values(revoked=time.time()).returning(TokenRow.jti)).all()
            return len(found)

    def revoke_before(self, pilot_id: str, moment: float) -> None:
        """Let a pilot's tokens that were issued before a moment count no more."""
        with self.read() as session:
            old = (TokenRow.pilot_id == pilot_id, TokenRow.issued < moment, TokenRow.revoked.is_(None))
            if session.scalar(select(func.count()).select_from(TokenRow).where(*old)) == 0:
                return
        with self.write() as session:
            session.execute(update(TokenRow).where(*old).values(revoked=time.time()))


def values(states: Iterable[PilotState]) -> list[str]:
    """The states as the store writes them."""
    return sorted(state.value for state in states)


@dataclass(frozen=True, slots=True)
class _Told:
    """What is kept of a report; made before the transaction, for which others wait."""

    packed: Packed
    facts: dict[str, Json]
    scores: list[Score]
    report: Json


def _take_report(session: Session, pilot: Pilot, told: _Told) -> None:
    session.merge(ReportRow(pilot_id=pilot.id, document=told.packed))
    note_node(session, pilot.entry, pilot.host, told.report, told.facts)
    _take_scores(session, pilot, told.scores)


def _take_scores(session: Session, pilot: Pilot, scores: Iterable[Score]) -> None:
    rows = [
        {
            "pilot_id": pilot.id, "entry": pilot.entry, "at": pilot.submitted, "benchmark": one.benchmark,
            "unit": one.unit, "number": one.number, "cpu_model": one.cpu_model,
        }
        for one in scores
    ]  # fmt: skip
    if rows:
        names = [row["benchmark"] for row in rows]
        session.execute(delete(ScoreRow).where(ScoreRow.pilot_id == pilot.id, ScoreRow.benchmark.in_(names)))
        session.execute(insert(ScoreRow), rows)


SAME = (
    "entry", "site", "payload", "sha256", "submitted", "directory", "ended", "missing_since", "exit_code", "host",
    "outcome", "failure_kind", "failure_code", "message", "jobs_started", "report", "vo", "seen", "jobs_evicted",
    "validation_seconds", "busy_seconds", "idle_seconds", "frontend", "grid_job", "started", "jobs_failed",
)  # fmt: skip


def _fill(row: PilotRow, pilot: Pilot, known: Pilot | None) -> None:
    for name in SAME:
        if known is None or getattr(known, name) != getattr(pilot, name):
            setattr(row, name, getattr(pilot, name))
    if known is None or known.state != pilot.state:
        row.state = pilot.state.value
    if known is None or known.job != pilot.job:
        row.cluster = pilot.job.cluster if pilot.job else None
        row.process = pilot.job.process if pilot.job else None


def row_of(pilot: Pilot) -> PilotRow:
    """A new row for a pilot."""
    row = PilotRow(id=pilot.id)
    _fill(row, pilot, None)
    return row


def pilot_of(row: PilotRow | SqlRow[Any]) -> Pilot:
    """A row as the class that everybody reads."""
    job = JobId(row.cluster, row.process) if row.cluster is not None and row.process is not None else None
    return Pilot(id=row.id, state=PilotState(row.state), job=job, **{name: getattr(row, name) for name in SAME})
