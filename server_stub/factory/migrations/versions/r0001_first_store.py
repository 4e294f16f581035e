"""The store as it was before it had revisions: pilots, changes of their state, reports."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make what factories of before have already."""
    op.create_table(
        "pilots",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("entry", sa.String(64), nullable=False, index=True),
        sa.Column("site", sa.String(64), nullable=False),
        sa.Column("payload", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("submitted", sa.Float, nullable=False),
        sa.Column("directory", sa.String, nullable=False),
        sa.Column("cluster", sa.Integer),
        sa.Column("process", sa.Integer),
        sa.Column("ended", sa.Float),
        sa.Column("missing_since", sa.Float),
        sa.Column("exit_code", sa.Integer),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("failure_kind", sa.String, nullable=False),
        sa.Column("failure_code", sa.String, nullable=False),
        sa.Column("message", sa.String, nullable=False),
        sa.Column("jobs_started", sa.Integer),
        sa.Column("report", sa.Boolean, nullable=False),
    )
    op.create_table(
        "changes",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("pilot_id", sa.String(32), sa.ForeignKey("pilots.id"), nullable=False, index=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
    )
    op.create_table(
        "reports",
        sa.Column("pilot_id", sa.String(32), sa.ForeignKey("pilots.id"), primary_key=True),
        sa.Column("document", sa.JSON, nullable=False),
    )
