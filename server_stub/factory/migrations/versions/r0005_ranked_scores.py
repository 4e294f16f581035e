"""An index that holds all that the page of benchmarks asks for, in the order in which it is grouped."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index."""
    columns = ["benchmark", "unit", "entry", "cpu_model", "number", "at"]
    op.create_index("ix_scores_ranked", "scores", columns)
