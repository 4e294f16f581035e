"""Events, scores, last words, tokens, entries and days; reports compressed; scores taken from the reports there are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from server_stub.factory.scores import scores_of
from server_stub.factory.tables import pack_json

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
AT_ONCE = 200


def upgrade() -> None:
    """Bring a database of the first store to this one, with all that is in it."""
    _widen_pilots()
    _make_tables()
    _repack_reports()
    if op.get_bind().dialect.name != "sqlite":  # which counts in 64 bits as it is
        op.alter_column("changes", "number", existing_type=sa.Integer(), type_=BIG, existing_nullable=False)


def _widen_pilots() -> None:
    for column in (
        sa.Column("vo", sa.String(64), nullable=False, server_default=""),
        sa.Column("seen", sa.Float),
        sa.Column("jobs_evicted", sa.Integer),
        sa.Column("validation_seconds", sa.Float),
        sa.Column("busy_seconds", sa.Float),
        sa.Column("idle_seconds", sa.Float),
        sa.Column("event_bytes", sa.Integer, nullable=False, server_default="0"),
    ):
        op.add_column("pilots", column)
    op.create_index("ix_pilots_submitted", "pilots", ["submitted"])
    op.create_index("ix_pilots_ended", "pilots", ["ended"])
    op.create_index("ix_pilots_entry_state", "pilots", ["entry", "state"])
    op.create_index("ix_pilots_failures", "pilots", ["failure_kind", "failure_code", "entry", "host", "ended"])


def _pilot() -> sa.Column[str]:
    return sa.Column("pilot_id", sa.String(32), sa.ForeignKey("pilots.id"), primary_key=True)


def _make_tables() -> None:
    op.create_table(
        "events",
        _pilot(),
        sa.Column("upto", BIG, primary_key=True, autoincrement=False),
        sa.Column("received", sa.Float, nullable=False),
        sa.Column("dropped", sa.Integer, nullable=False),
        sa.Column("lines", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "scores",
        _pilot(),
        sa.Column("benchmark", sa.String(100), primary_key=True),
        sa.Column("entry", sa.String(64), nullable=False, index=True),
        sa.Column("unit", sa.String(100), nullable=False),
        sa.Column("number", sa.Float, nullable=False),
        sa.Column("cpu_model", sa.String(300), nullable=False),
        sa.Column("at", sa.Float, nullable=False, index=True),
    )
    op.create_table(
        "last_words",
        _pilot(),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.create_table(
        "entries",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("closed", sa.String(300), nullable=False, server_default=""),
        sa.Column("changed", sa.Float, nullable=False),
    )
    op.create_table(
        "tokens",
        sa.Column("jti", sa.String(64), primary_key=True),
        sa.Column("pilot_id", sa.String(32), nullable=False, index=True),
        sa.Column("issued", sa.Float, nullable=False),
        sa.Column("expires", sa.Float, nullable=False, index=True),
        sa.Column("revoked", sa.Float),
    )
    counts = ("pilots", "ok", "failed", "preempted", "without_job", "jobs_started", "jobs_evicted")
    op.create_table(
        "days",
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("entry", sa.String(64), primary_key=True),
        *(sa.Column(name, sa.Integer, nullable=False) for name in counts),
        *(sa.Column(f"{name}_seconds", sa.Float, nullable=False) for name in ("validation", "busy", "idle")),
    )
    op.create_table(
        "day_failures",
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("entry", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(32), primary_key=True),
        sa.Column("code", sa.String(300), primary_key=True),
        sa.Column("pilots", sa.Integer, nullable=False),
    )


def _repack_reports() -> None:
    """Some at a time: all the reports of a factory do not fit into memory."""
    connection = op.get_bind()
    old = sa.table("reports", sa.column("pilot_id", sa.String), sa.column("document", sa.JSON))
    pilots = sa.table(
        "pilots", sa.column("id", sa.String), sa.column("entry", sa.String), sa.column("submitted", sa.Float)
    )
    op.create_table("packed", _pilot(), sa.Column("document", sa.LargeBinary, nullable=False))
    new = sa.table("packed", sa.column("pilot_id", sa.String), sa.column("document", sa.LargeBinary))
    scores = sa.table(
        "scores", *map(sa.column, ("pilot_id", "benchmark", "entry", "unit", "number", "cpu_model", "at"))
    )
    last = ""
    while True:
        query = sa.select(old.c.pilot_id, old.c.document, pilots.c.entry, pilots.c.submitted)
        query = query.join_from(old, pilots, pilots.c.id == old.c.pilot_id).where(old.c.pilot_id > last)
        found = connection.execute(query.order_by(old.c.pilot_id).limit(AT_ONCE)).all()
        if not found:
            break
        last = found[-1].pilot_id
        packed = [{"pilot_id": row.pilot_id, "document": pack_json(row.document)} for row in found]
        connection.execute(new.insert(), packed)
        told = [
            {
                "pilot_id": row.pilot_id, "entry": row.entry, "at": row.submitted, "benchmark": one.benchmark,
                "unit": one.unit, "number": one.number, "cpu_model": one.cpu_model,
            }
            for row in found
            for one in scores_of(row.document)
        ]  # fmt: skip
        if told:
            connection.execute(scores.insert(), told)
    op.drop_table("reports")
    op.rename_table("packed", "reports")
