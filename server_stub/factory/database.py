"""Opening the store's database, and bringing it to the newest revision.

SQLite keeps a write-ahead log, so that pages are read while pilots write, and a commit is on the disk when it returns;
who writes says so at the beginning, since SQLite cannot let a reader of a moment ago write.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from pilot_agent.model import Failure, FailureKind, PilotError

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0005"
"""The newest revision; a test asks Alembic whether it is."""
FIRST = "0001"
BUSY_TIMEOUT_SECONDS = 30
WRITING = "pilot_factory_writing"
MIGRATION_LOCK = 7_014_337_021
"""The number of PostgreSQL's advisory lock: any that nobody else uses in this database."""


def open_database(url: str) -> Engine:
    """The database at ``url``, at the newest revision.

    Raises ``PilotError``: store.unreachable, and store.newer where a later version of the factory wrote it.
    """
    engine = _engine(url)
    try:
        _migrate(engine)
    except SQLAlchemyError as error:
        engine.dispose()
        raise _unreachable(url, error) from error
    except BaseException:
        engine.dispose()
        raise
    return engine


def stored_revision(url: str) -> str | None:
    """The revision of the database at ``url``, which is left as it is; None where there is none yet.

    Raises ``PilotError`` (store.unreachable).
    """
    place = make_url(url)
    if place.get_backend_name() == "sqlite" and not os.path.exists(place.database or ""):
        return None  # asking would make it
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            return revision(connection)
    except SQLAlchemyError as error:
        raise _unreachable(url, error) from error
    finally:
        engine.dispose()


def _unreachable(url: str, error: SQLAlchemyError) -> PilotError:
    safe = make_url(url).render_as_string(hide_password=True)
    message = f"the store {safe} cannot be used: {str(error).splitlines()[0]}"
    hint = "see that the database is there and that this account may use it; the factory's operator must act"
    return PilotError(Failure(FailureKind.CONFIG, "store.unreachable", message, hint))


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, pool_size=20, max_overflow=20)
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})

    @event.listens_for(engine, "connect")
    def _connected(connection: object, record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]  # transactions begin where `_begin` says
        cursor = connection.cursor()  # type: ignore[attr-defined]
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writing = connection.get_execution_options().get(WRITING)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def writing(engine: Engine) -> Engine:
    """The same database, for transactions that will write."""
    return engine.execution_options(**{WRITING: True})


def revision(connection: Connection) -> str | None:
    """Which revision the database has; None for an empty one. One of before there were revisions has the first."""
    tables = inspect(connection).get_table_names()
    if "alembic_version" in tables:
        found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return found
    return FIRST if "pilots" in tables else None


def _migrate(engine: Engine) -> None:
    with engine.connect() as connection:
        if revision(connection) == HEAD:
            return
    with _alone(engine), writing(engine).begin() as connection:
        found = revision(connection)
        if found == HEAD:  # another process was quicker
            return
        if found is not None and found > HEAD:
            message = f"the store has revision {found}, this factory knows up to {HEAD}"
            hint = "run the version of the factory that wrote it, or a later one; the factory's operator must act"
            raise PilotError(Failure(FailureKind.CONFIG, "store.newer", message, hint))
        _upgrade(connection, found)


def _upgrade(connection: Connection, found: str | None) -> None:
    from alembic import command

    config = migrations(connection)
    if found == FIRST:
        command.stamp(config, FIRST)
    command.upgrade(config, "head")


def migrations(connection: Connection | None = None) -> Config:
    """Alembic's configuration; with a connection, for work on that database."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    return config


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """Of several processes that open an old database one brings it up to date."""
    database = engine.url.database
    if engine.dialect.name == "sqlite" and database and database != ":memory:":
        descriptor = os.open(f"{database}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
    elif engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATION_LOCK})
            yield
    else:
        yield
