"""The tables of the store. ``migrations`` brings an older database to them; a test compares the two."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import ClassVar

from sqlalchemy import BigInteger, Dialect, Float, ForeignKey, Index, Integer, LargeBinary, String, Text, TypeDecorator
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pilot_agent.model import Json

# SQLite counts up only in a column that is called INTEGER.
Number = BigInteger().with_variant(Integer(), "sqlite")


@dataclass(frozen=True, slots=True)
class Packed:
    """A document that was packed already, so that it is not done while others wait for the database."""

    content: bytes


class PackedJson(TypeDecorator[Json]):
    """A document as compressed ASCII: whatever a stranger's JSON holds, half a surrogate pair or a zero byte too, every
    database keeps it, in a tenth of the room."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Json, dialect: Dialect) -> bytes | None:
        """What is stored."""
        if isinstance(value, Packed):
            return value.content
        return None if value is None else pack_json(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> Json:
        """What was given."""
        return None if value is None else json.loads(zlib.decompress(value))


def pack_json(document: Json) -> bytes:
    """A document as ``PackedJson`` stores it."""
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode("ascii"), 3)


class Base(DeclarativeBase):
    """All tables."""

    # Which of the two kinds of columns a float is differs between versions of the library.
    type_annotation_map: ClassVar[dict[type, type[Float[float]]]] = {float: Float}


class PilotRow(Base):
    """``Pilot``; ``event_bytes`` is what it sent of events."""

    __tablename__ = "pilots"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    entry: Mapped[str] = mapped_column(String(64), index=True)
    site: Mapped[str] = mapped_column(String(64))
    payload: Mapped[str] = mapped_column(String(64))
    sha256: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16), index=True)
    submitted: Mapped[float] = mapped_column(index=True)
    directory: Mapped[str]
    cluster: Mapped[int | None]
    process: Mapped[int | None]
    ended: Mapped[float | None] = mapped_column(index=True)
    missing_since: Mapped[float | None]
    exit_code: Mapped[int | None]
    host: Mapped[str] = mapped_column(default="")
    outcome: Mapped[str] = mapped_column(default="")
    failure_kind: Mapped[str] = mapped_column(default="")
    failure_code: Mapped[str] = mapped_column(default="")
    message: Mapped[str] = mapped_column(default="")
    jobs_started: Mapped[int | None]
    report: Mapped[bool] = mapped_column(default=False)
    vo: Mapped[str] = mapped_column(String(64), default="", server_default="")
    seen: Mapped[float | None]
    jobs_evicted: Mapped[int | None]
    validation_seconds: Mapped[float | None]
    busy_seconds: Mapped[float | None]
    idle_seconds: Mapped[float | None]
    event_bytes: Mapped[int] = mapped_column(default=0, server_default="0")
    frontend: Mapped[str] = mapped_column(String(64), default="", server_default="")
    grid_job: Mapped[str] = mapped_column(default="", server_default="")
    started: Mapped[float | None]
    jobs_failed: Mapped[int | None]

    # What the pages count, without a look at the rows themselves.
    __table_args__ = (
        Index("ix_pilots_entry_state", "entry", "state"),
        Index("ix_pilots_failures", "failure_kind", "failure_code", "entry", "host", "ended"),
        Index("ix_pilots_frontend_submitted", "frontend", "submitted"),
        # What of each frontend waits and runs where, and since when.
        Index("ix_pilots_demand", "state", "entry", "frontend", "vo", "submitted"),
    )


class ChangeRow(Base):
    """When a pilot came into which state."""

    __tablename__ = "changes"

    number: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    pilot_id: Mapped[str] = mapped_column(ForeignKey("pilots.id"), index=True)
    at: Mapped[float]
    state: Mapped[str] = mapped_column(String(16))


class ReportRow(Base):
    """The newest report of a pilot."""

    __tablename__ = "reports"

    pilot_id: Mapped[str] = mapped_column(ForeignKey("pilots.id"), primary_key=True)
    document: Mapped[Json] = mapped_column(PackedJson)


class EventsRow(Base):
    """Some lines of a pilot's event log, compressed; ``upto`` is the place in the log after them, by which what is sent
    twice is stored once."""

    __tablename__ = "events"

    pilot_id: Mapped[str] = mapped_column(ForeignKey("pilots.id"), primary_key=True)
    upto: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=False)
    received: Mapped[float]
    dropped: Mapped[int]
    lines: Mapped[bytes] = mapped_column(LargeBinary)


class ScoreRow(Base):
    """A benchmark's result; those of one pilot differ in their benchmark."""

    __tablename__ = "scores"

    pilot_id: Mapped[str] = mapped_column(ForeignKey("pilots.id"), primary_key=True)
    benchmark: Mapped[str] = mapped_column(String(100), primary_key=True)
    entry: Mapped[str] = mapped_column(String(64), index=True)
    unit: Mapped[str] = mapped_column(String(100))
    number: Mapped[float]
    cpu_model: Mapped[str] = mapped_column(String(300))
    at: Mapped[float] = mapped_column(index=True)

    # What is compared, without a look at the rows themselves and without sorting them.
    __table_args__ = (Index("ix_scores_ranked", "benchmark", "unit", "entry", "cpu_model", "number", "at"),)


class LastWordsRow(Base):
    """What a pilot, or whoever survived it, said in the end."""

    __tablename__ = "last_words"

    pilot_id: Mapped[str] = mapped_column(ForeignKey("pilots.id"), primary_key=True)
    at: Mapped[float]
    text: Mapped[str] = mapped_column(Text)


class EntryRow(Base):
    """What is known of an entry beside its configuration; ``closed`` is the operator's reason to submit nothing."""

    __tablename__ = "entries"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    closed: Mapped[str] = mapped_column(String(300), default="", server_default="")
    changed: Mapped[float]


class TokenRow(Base):
    """A token that was issued: whose, until when, and when it was revoked, if it was. The token itself is not kept."""

    __tablename__ = "tokens"

    jti: Mapped[str] = mapped_column(String(64), primary_key=True)
    pilot_id: Mapped[str] = mapped_column(String(32), index=True)
    issued: Mapped[float]
    expires: Mapped[float] = mapped_column(index=True)
    revoked: Mapped[float | None]


class DayRow(Base):
    """All pilots of an entry that ended on one day (UTC, ``YYYY-MM-DD``); stays when the pilots themselves go."""

    __tablename__ = "days"

    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    entry: Mapped[str] = mapped_column(String(64), primary_key=True)
    pilots: Mapped[int]
    ok: Mapped[int]
    failed: Mapped[int]
    preempted: Mapped[int]
    without_job: Mapped[int]
    jobs_started: Mapped[int]
    jobs_evicted: Mapped[int]
    validation_seconds: Mapped[float]
    busy_seconds: Mapped[float]
    idle_seconds: Mapped[float]


class DayFailureRow(Base):
    """How often an entry's pilots failed by one cause on one day."""

    __tablename__ = "day_failures"

    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    entry: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(32), primary_key=True)
    code: Mapped[str] = mapped_column(String(300), primary_key=True)
    pilots: Mapped[int]


class FrontendRow(Base):
    """The newest set of requests of a frontend: its number, the sha256 of what was sent, until when it counts (epoch
    seconds), and what was answered."""

    __tablename__ = "frontends"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(String(64))
    received: Mapped[float]
    expires: Mapped[float]
    answer: Mapped[Json] = mapped_column(PackedJson)


class RequestRow(Base):
    """What a frontend wants of an entry for a VO. ``limited_by`` is what kept the factory from giving all of it when
    that was last decided, empty where nothing did."""

    __tablename__ = "requests"

    frontend: Mapped[str] = mapped_column(ForeignKey("frontends.name"), primary_key=True)
    entry: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)
    vo: Mapped[str] = mapped_column(String(64), primary_key=True)
    queued: Mapped[int]
    pilots: Mapped[int]
    remove: Mapped[str] = mapped_column(String(16))
    idle: Mapped[Json] = mapped_column(PackedJson)
    credentials: Mapped[Json] = mapped_column(PackedJson)
    limited_by: Mapped[str] = mapped_column(String(300), default="", server_default="")


class UsedTokenRow(Base):
    """A frontend's token that was used to write; kept until it would have expired."""

    __tablename__ = "used_tokens"

    frontend: Mapped[str] = mapped_column(String(64), primary_key=True)
    jti: Mapped[str] = mapped_column(String(128), primary_key=True)
    expires: Mapped[float] = mapped_column(index=True)


class NodeRow(Base):
    """The facts that the last pilot on a node of an entry reported, as far as a frontend may ask for them."""

    __tablename__ = "nodes"

    entry: Mapped[str] = mapped_column(String(64), primary_key=True)
    host: Mapped[str] = mapped_column(String(255), primary_key=True)
    at: Mapped[float]
    facts: Mapped[Json] = mapped_column(PackedJson)


class CredentialRow(Base):
    """A credential that a frontend gave: its label, and the content sealed as it came, by the factory's key
    ``encryption``. ``version`` grows with each newer content; ``pilot_id`` is whose it is, of those that only one pilot
    may have."""

    __tablename__ = "credentials"

    frontend: Mapped[str] = mapped_column(String(64), primary_key=True)
    id: Mapped[str] = mapped_column(String(100), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    purpose: Mapped[str] = mapped_column(String(16))
    entry: Mapped[str] = mapped_column(String(64))
    expires: Mapped[int] = mapped_column(BigInteger, index=True)
    encryption: Mapped[str] = mapped_column(String(64))
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    received: Mapped[float]
    version: Mapped[int]
    pilot_id: Mapped[str | None] = mapped_column(String(32), index=True)

    __table_args__ = (Index("ix_credentials_free", "frontend", "purpose", "entry", "pilot_id"),)


class HandedRow(Base):
    """Which version of a credential lies in which file of a pilot's directory."""

    __tablename__ = "handed"

    pilot_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    file: Mapped[str] = mapped_column(String(64), primary_key=True)
    frontend: Mapped[str] = mapped_column(String(64))
    credential: Mapped[str] = mapped_column(String(100))
    version: Mapped[int]

    __table_args__ = (Index("ix_handed_credential", "frontend", "credential"),)
