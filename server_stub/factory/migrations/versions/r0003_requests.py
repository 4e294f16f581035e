"""What frontends ask for; whose a pilot is, when it began, and what its site calls it; nodes as pilots found them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BEGAN = """
UPDATE pilots SET started = (
    SELECT min(changes.at) FROM changes WHERE changes.pilot_id = pilots.id AND changes.state = 'running')
"""


def upgrade() -> None:
    """Widen the pilots, and make the tables of the frontends' side."""
    for column in (
        sa.Column("frontend", sa.String(64), nullable=False, server_default=""),
        sa.Column("grid_job", sa.String, nullable=False, server_default=""),
        sa.Column("started", sa.Float),
        sa.Column("jobs_failed", sa.Integer),
    ):
        op.add_column("pilots", column)
    op.execute(BEGAN)
    op.create_index("ix_pilots_frontend_submitted", "pilots", ["frontend", "submitted"])
    op.create_index("ix_pilots_demand", "pilots", ["state", "entry", "frontend", "vo", "submitted"])
    op.create_table(
        "frontends",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("received", sa.Float, nullable=False),
        sa.Column("expires", sa.Float, nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "requests",
        sa.Column("frontend", sa.String(64), sa.ForeignKey("frontends.name"), primary_key=True),
        sa.Column("entry", sa.String(64), primary_key=True),
        sa.Column("vo", sa.String(64), primary_key=True),
        sa.Column("queued", sa.Integer, nullable=False),
        sa.Column("pilots", sa.Integer, nullable=False),
        sa.Column("remove", sa.String(16), nullable=False),
        sa.Column("idle", sa.LargeBinary, nullable=False),
        sa.Column("credentials", sa.LargeBinary, nullable=False),
        sa.Column("limited_by", sa.String(300), nullable=False, server_default=""),
    )
    op.create_index("ix_requests_entry", "requests", ["entry"])
    op.create_table(
        "used_tokens",
        sa.Column("frontend", sa.String(64), primary_key=True),
        sa.Column("jti", sa.String(128), primary_key=True),
        sa.Column("expires", sa.Float, nullable=False, index=True),
    )
    op.create_table(
        "nodes",
        sa.Column("entry", sa.String(64), primary_key=True),
        sa.Column("host", sa.String(255), primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("facts", sa.LargeBinary, nullable=False),
    )
