"""What frontends gave for their pilots, sealed as it came, and which pilot was given what."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the two tables."""
    op.create_table(
        "credentials",
        sa.Column("frontend", sa.String(64), primary_key=True),
        sa.Column("id", sa.String(100), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("entry", sa.String(64), nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False, index=True),
        sa.Column("encryption", sa.String(64), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("received", sa.Float, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("pilot_id", sa.String(32), index=True),
    )
    op.create_index("ix_credentials_free", "credentials", ["frontend", "purpose", "entry", "pilot_id"])
    op.create_table(
        "handed",
        sa.Column("pilot_id", sa.String(32), primary_key=True),
        sa.Column("file", sa.String(64), primary_key=True),
        sa.Column("frontend", sa.String(64), nullable=False),
        sa.Column("credential", sa.String(100), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_index("ix_handed_credential", "handed", ["frontend", "credential"])
