"""Alembic's way in: it runs the migrations on the connection that ``server_stub.factory.database`` hands it."""

from __future__ import annotations

from alembic import context

from server_stub.factory.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    compare_type=True,
)
context.run_migrations()
