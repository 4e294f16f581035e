"""What the store does on SQLite it does on a real PostgreSQL server, and what it accepted outlives that server."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from server_stub.factory.store import Store
from server_stub.factory.tables import Base
from tests.server_stub.factory import test_demand, test_history, test_store, test_vault
from tests.server_stub.factory.test_store import pilot
from tests.testbed.postgresql import PostgreSQL
from tests.testbed.runs import run_directory

NUMBERS = itertools.count()
SAME = {
    name: function
    for module in (test_demand, test_history, test_store, test_vault)
    for name, function in vars(module).items()
    if name.startswith("test_")
}
"""Every test of the store."""


@pytest.fixture(scope="module")
def server(testbed_machine: None) -> Iterator[PostgreSQL]:
    with run_directory() as directory, PostgreSQL(Path(directory)) as running:
        yield running


@pytest.fixture(scope="module")
def migrated(server: PostgreSQL) -> str:
    """The name of a database to be copied for each test."""
    Store(server.create("migrated")).close()
    return "migrated"


@pytest.fixture
def store(server: PostgreSQL, migrated: str) -> Iterator[Store]:
    with Store(server.create(f"store{next(NUMBERS)}", template=migrated)) as opened:
        yield opened


def plain(name: str) -> bool:
    """Takes nothing but a store."""
    return tuple(inspect.signature(SAME[name]).parameters) == ("store",)


@pytest.mark.parametrize("name", sorted(filter(plain, SAME)))
def test_the_store_does_on_postgresql_what_it_does_on_sqlite(name: str, store: Store) -> None:
    SAME[name](store)


def test_the_migrations_make_the_tables_that_the_code_speaks_of(store: Store) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_what_was_accepted_outlives_a_killed_server(server: PostgreSQL, migrated: str) -> None:
    url = server.create("killed", template=migrated)
    with Store(url) as store:
        for number in range(20):
            store.save(pilot(f"p{number}"), report={"number": number})
        server.kill()
    server.start()
    with Store(url) as store:
        assert [(store.report(f"p{number}") or {})["number"] for number in range(20)] == list(range(20))
