"""A database of any age is brought to the newest revision once, with all that is in it; a newer one is left alone."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from pilot_agent.model import PilotError
from server_stub.factory.database import HEAD, migrations, open_database
from server_stub.factory.pilots import JobId, PilotState, Scores
from server_stub.factory.store import Store
from server_stub.factory.tables import Base

OLD = """
CREATE TABLE pilots (id VARCHAR(32) NOT NULL, entry VARCHAR(64) NOT NULL, site VARCHAR(64) NOT NULL,
 payload VARCHAR(64) NOT NULL, sha256 VARCHAR(64) NOT NULL, state VARCHAR(16) NOT NULL, submitted FLOAT NOT NULL,
 directory VARCHAR NOT NULL, cluster INTEGER, process INTEGER, ended FLOAT, missing_since FLOAT, exit_code INTEGER,
 host VARCHAR NOT NULL, outcome VARCHAR NOT NULL, failure_kind VARCHAR NOT NULL, failure_code VARCHAR NOT NULL,
 message VARCHAR NOT NULL, jobs_started INTEGER, report BOOLEAN NOT NULL, PRIMARY KEY (id));
CREATE INDEX ix_pilots_state ON pilots (state);
CREATE INDEX ix_pilots_entry ON pilots (entry);
CREATE TABLE changes (number INTEGER NOT NULL, pilot_id VARCHAR(32) NOT NULL, at FLOAT NOT NULL,
 state VARCHAR(16) NOT NULL, PRIMARY KEY (number), FOREIGN KEY(pilot_id) REFERENCES pilots (id));
CREATE INDEX ix_changes_pilot_id ON changes (pilot_id);
CREATE TABLE reports (pilot_id VARCHAR(32) NOT NULL, document JSON NOT NULL, PRIMARY KEY (pilot_id),
 FOREIGN KEY(pilot_id) REFERENCES pilots (id));
"""
"""What the factory made before its store had revisions."""
REPORT = {
    "schema": "pilot-agent/report/1",
    "node": {"cpu": {"model": {"value": "CPU"}}},
    "benchmarks": [{"name": "hash", "score": 7, "unit": "MB/s"}],
}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A store of before, with 450 pilots of which each has a report."""
    path = tmp_path / "factory.sqlite"
    with sqlite3.connect(path) as database:
        database.executescript(OLD)
        for number in range(450):
            name = f"p{number}"
            row = (name, "site-a", "S", "pilot.pyz", "ab", "ended", float(number), f"/state/{name}", 7, number)
            database.execute("INSERT INTO pilots VALUES (?,?,?,?,?,?,?,?,?,?,9.5,NULL,0,'wn1','ok','','','',3,1)", row)
            database.execute("INSERT INTO changes (pilot_id, at, state) VALUES (?, 1.0, 'ended')", (name,))
            database.execute("INSERT INTO reports VALUES (?, ?)", (name, json.dumps(REPORT)))
    database.close()
    return path


def test_a_store_of_before_keeps_all_that_was_in_it(old: Path) -> None:
    with Store(f"sqlite:///{old}") as store:
        found = store.pilots()
        assert len(found) == 450
        assert (found[7].id, found[7].job, found[7].state, found[7].vo) == ("p7", JobId(7, 7), PilotState.ENDED, "")
        assert store.report("p449") == REPORT
        assert store.changes("p449") == [(1.0, PilotState.ENDED)]
        assert store.scores() == [Scores("hash", "MB/s", "site-a", "CPU", (7.0,) * 450)]


@pytest.mark.parametrize("age", ["empty", "old"])
def test_the_migrations_make_exactly_the_tables_that_the_code_speaks_of(old: Path, tmp_path: Path, age: str) -> None:
    path = old if age == "old" else tmp_path / "new.sqlite"
    with Store(f"sqlite:///{path}") as store, store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, Base.metadata)
    assert differences == []


def test_the_newest_revision_is_the_one_that_the_code_names() -> None:
    assert ScriptDirectory.from_config(migrations()).get_current_head() == HEAD


def test_two_processes_open_an_old_store_at_once_and_one_brings_it_up_to_date(old: Path) -> None:
    script = f"from server_stub.factory.store import Store\nprint(len(Store('sqlite:///{old}').pilots()))"
    running = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0] for process in running] == ["450\n"] * 2


def test_a_migration_that_is_cut_short_changes_nothing(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(document: object) -> bytes:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("server_stub.factory.tables.pack_json", cut)
        with pytest.raises(OSError, match="no space"):
            open_database(f"sqlite:///{old}")
    with sqlite3.connect(old) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert tables == {"pilots", "changes", "reports"}
    database.close()
    with Store(f"sqlite:///{old}") as store:
        assert store.report("p3") == REPORT


def test_a_store_that_a_later_factory_wrote_is_not_touched(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'later.sqlite'}"
    Store(url).close()
    with sqlite3.connect(tmp_path / "later.sqlite") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    with pytest.raises(PilotError, match="revision 9999"):
        Store(url)


def test_a_store_that_cannot_be_opened_is_told_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(PilotError) as caught:
        Store(f"sqlite:///{tmp_path}/nowhere/factory.sqlite")
    assert caught.value.failure.code == "store.unreachable"
    with pytest.raises(PilotError) as caught:
        Store("postgresql+psycopg://factory:secret@127.0.0.1:9/none")
    assert "127.0.0.1" in caught.value.failure.message
    assert "secret" not in caught.value.failure.message


def test_what_was_written_is_on_the_disk(tmp_path: Path) -> None:
    with Store(f"sqlite:///{tmp_path / 'factory.sqlite'}") as store, store.engine.connect() as connection:
        told = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    assert told == ["wal", 2]
