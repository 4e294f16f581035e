"""From nothing to a factory whose state people and programs can read."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from server_stub.cli import main
from server_stub.commands.factory.status import ago
from server_stub.entries import Factory, read_factory
from server_stub.factory.pilots import JobId, Pilot, PilotState
from server_stub.factory.store import Store
from server_stub.factory.tables import FrontendRow, RequestRow
from server_stub.running import RunningFile

Told = pytest.CaptureFixture[str]


@pytest.fixture
def file(document: dict[str, Any], tmp_path: Path) -> str:
    path = tmp_path / "factory.yaml"
    path.write_text(json.dumps(document))
    return str(path)


@pytest.fixture
def parts(tmp_path: Path) -> str:
    """A directory with payload and launcher."""
    place = tmp_path / "parts"
    place.mkdir()
    for name in ("pilot.sh", "launcher.sh"):
        (place / name).write_text("#!/bin/sh\n")
    return str(place)


def saved(store: Store, **more: Any) -> Pilot:
    known: dict[str, Any] = {"site": "S", "payload": "pilot.pyz", "sha256": "0" * 64, "submitted": 1.0}
    pilot = Pilot(directory="/p", **{"id": "p1", "entry": "site-a", "state": PilotState.RUNNING, **known, **more})
    store.save(pilot)
    return pilot


def test_init_makes_a_factory_that_its_own_check_takes(
    tmp_path: Path, parts: str, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    from server_stub.condor.system import HTCondor

    monkeypatch.setattr(HTCondor, "queue", lambda self, factory: {})
    monkeypatch.setattr(HTCondor, "schedd", lambda self: "here")
    new = tmp_path / "new"
    words = ["--name", "mine", "--collector", "cm.example.org:9618", "--from", parts, "--url", "http://127.0.0.1:18999"]
    assert main(["init", str(new), *words]) == 0
    assert "pilot-factory check --config" in capsys.readouterr().out
    factory = read_factory(str(new / "factory.yaml"))
    assert (factory.name, factory.port, factory.pilot["pool"]) == (
        "mine",
        18999,
        {"collectors": ["cm.example.org:9618"]},
    )
    assert [(entry.name, entry.payload) for entry in factory.entries] == [("local", "sh")]
    assert (new / "state").stat().st_mode & 0o777 == 0o700
    assert (new / "state" / "token.key").stat().st_mode & 0o777 == 0o600
    assert main(["check", "--json", "--config", str(new / "factory.yaml")]) == 0
    verdicts = {one["name"]: one["verdict"] for one in json.loads(capsys.readouterr().out)}
    assert set(verdicts.values()) == {"ok", "warn"}
    assert verdicts["certificate"] == "warn"


def test_init_writes_over_nothing(tmp_path: Path, parts: str, capsys: Told) -> None:
    (tmp_path / "factory.yaml").write_text("mine")
    assert main(["init", str(tmp_path), "--from", parts]) == 2
    assert "exists already, and nothing was written" in capsys.readouterr().err
    assert (tmp_path / "factory.yaml").read_text() == "mine"
    assert not (tmp_path / "entries.yaml").exists()


def test_the_store_of_a_new_factory_may_be_elsewhere(tmp_path: Path, parts: str) -> None:
    state = tmp_path / "var"
    state.mkdir()
    assert main(["init", str(tmp_path / "etc"), "--from", parts, "--state", str(state)]) == 0
    assert read_factory(str(tmp_path / "etc" / "factory.yaml")).state == str(state)
    assert [path.name for path in state.iterdir()] == ["token.key"]
    assert main(["init", str(tmp_path / "other"), "--from", parts, "--state", str(state)]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--name", "a b"], "--name 'a b' is no name"),
        (["--url", "ftp://x"], "--url 'ftp://x' is no address"),
        (["--collector", "a b"], "--collector 'a b'"),
    ],
)
def test_init_refuses_words_that_its_file_could_not_hold(
    tmp_path: Path, words: list[str], said: str, capsys: Told
) -> None:
    assert main(["init", str(tmp_path / "new"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_check_tells_what_to_change_and_ends_by_who_must_act(file: str, capsys: Told) -> None:
    assert main(["check", "--config", file]) == 66
    told = capsys.readouterr().out
    assert "pilot.sh cannot be read" in told
    assert "\n  put pilot.sh into " in told


def test_status_shows_each_entry_and_whether_the_server_runs(
    file: str, factory: Factory, store: Store, capsys: Told
) -> None:
    saved(store)
    saved(store, id="p2", state=PilotState.HELD)
    assert main(["entries", "close", "--entry", "site-b", "--reason", "new switches", "--config", file]) == 0
    capsys.readouterr()
    assert main(["status", "--config", file]) == 0
    first, _, head, a, b = capsys.readouterr().out.splitlines()
    assert first == "example: the server does not run"
    assert head.split() == [
        "entry",
        "site",
        "queued",
        "running",
        "held",
        "of",
        "asked",
        "failed",
        "wasted",
        "why",
        "not",
        "more",
    ]
    assert a.split() == ["site-a", "Example_T2", "0", "1", "1", "2"]
    assert b.split()[-3:] == ["closed:", "new", "switches"]
    running = RunningFile(factory.state, "1", now=time.time() - 7300)
    running.tell(answered=time.time() - 30)
    assert main(["status", "--config", file]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(f"example: running for 2 h as process {os.getpid()}; the batch system answered 3")
    running.tell(problem="it does not answer")
    assert main(["status", "--json", "--config", file]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["server"]["problem"] == "it does not answer"
    assert [entry["name"] for entry in told["entries"]] == ["site-a", "site-b"]


def test_status_tells_what_frontends_ask_for_and_what_keeps_them_from_it(file: str, store: Store, capsys: Told) -> None:
    now = time.time()
    wanted = {"entry": "site-a", "remove": "NO", "idle": [], "credentials": []}
    with store.write() as session:
        for name, until, limit in (("fe", now + 600, "limits.total"), ("gone", now - 1, "limits.idle")):
            session.add(FrontendRow(name=name, sequence=1, digest="", received=now, expires=until, answer={}))
            session.flush()
            for vo, queued in (("cms", 5), ("dune", 2)):
                told = limit if vo == "cms" else ""
                session.add(RequestRow(frontend=name, vo=vo, queued=queued, pilots=9, limited_by=told, **wanted))
    assert main(["status", "--config", file]) == 0
    *_, a, b = capsys.readouterr().out.splitlines()
    assert a.split() == ["site-a", "Example_T2", "0", "0", "0", "2", "7", "limits.total", "(fe,", "cms)"]
    assert b.split()[:5] == ["site-b", "Example_T3", "0", "0", "0"]
    assert "limits" not in b


@pytest.mark.parametrize(
    ("seconds", "said"), [(-1, "0 s"), (119, "119 s"), (121, "2 min"), (9000, "2 h"), (1e6, "12 d")]
)
def test_a_time_span_is_told_in_a_unit_that_fits(seconds: float, said: str) -> None:
    assert ago(seconds) == said


def test_entries_are_listed_and_shown(file: str, capsys: Told) -> None:
    assert main(["entries", "--config", file]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [
        "site-a",
        "Example_T2",
        "local",
        "here",
        "1",
        "1024",
        "0",
        "2",
        "all",
        "open",
    ]
    assert main(["entries", "close", "--entry", "site-b", "--reason", "new switches", "--config", file]) == 0
    assert capsys.readouterr().out == "site-b is closed: new switches\n"
    assert main(["entries", "--config", file]) == 0
    assert capsys.readouterr().out.splitlines()[2].endswith("closed: new switches")
    assert main(["entries", "list", "--json", "--config", file]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(entry["name"], entry["closed"]) for entry in told] == [("site-a", ""), ("site-b", "new switches")]
    assert main(["entries", "show", "site-a", "--config", file]) == 0
    assert "idle_shutdown_seconds: 20" in capsys.readouterr().out
    assert main(["entries", "show", "site-x", "--config", file]) == 2


@pytest.mark.parametrize("count", ["0", "-1", "two", "1.5"])
def test_pilots_are_submitted_in_whole_numbers_above_zero(file: str, capsys: Told, count: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["submit", "--entry", "site-a", "--count", count, "--config", file])
    assert ended.value.code == 2
    assert f"'{count}' is no number of pilots" in capsys.readouterr().err


def test_a_misspelt_entry_is_not_one_without_pilots(file: str, store: Store, capsys: Told) -> None:
    saved(store, entry="of-old")
    assert main(["pilots", "list", "--entry", "site-a", "--config", file]) == 0
    assert main(["pilots", "list", "--entry", "of-old", "--json", "--config", file]) == 0
    assert "of-old" in capsys.readouterr().out
    assert main(["pilots", "list", "--entry", "site-x", "--config", file]) == 2
    assert "no entry 'site-x'; it has site-a, site-b" in capsys.readouterr().err


def test_one_pilot_is_shown_with_its_story(file: str, store: Store, capsys: Told) -> None:
    pilot = saved(store, state=PilotState.QUEUED, job=JobId(7, 0))
    saved(store, state=PilotState.ENDED, job=JobId(7, 0), exit_code=64, started=86400.0)
    store.add_last_words(pilot.id, "the disk\x1b[2J is full")
    assert main(["pilots", "show", "p1", "--config", file]) == 0
    told = capsys.readouterr().out
    assert "exit_code          64\n" in told
    assert "started            1970-01-02 00:00:00 UTC\n" in told
    assert "was queued " in told
    assert "the disk" in told
    assert "\x1b" not in told
    assert main(["pilots", "show", "p9", "--config", file]) == 2


def test_a_pilots_report_and_events_are_printed(file: str, store: Store, capsys: Told) -> None:
    pilot = saved(store)
    assert main(["pilots", "report", "p1", "--config", file]) == 2
    assert "gave no report: it is running" in capsys.readouterr().err
    store.save(pilot, known=pilot, report={"schema": "x"})
    assert main(["pilots", "report", "p1", "--config", file]) == 0
    assert json.loads(capsys.readouterr().out) == {"schema": "x"}
    store.add_events("p1", b'{"event": "a"}\n{"event": "\x9bb"}\n', upto=29, dropped=0, limit_bytes=1000)
    assert main(["pilots", "events", "p1", "--config", file]) == 0
    assert capsys.readouterr().out.splitlines()[0] == '{"event": "a"}'


def test_pilots_are_removed_by_name_and_those_that_ended_are_left(
    file: str, store: Store, capsys: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    from server_stub.condor.system import HTCondor

    asked: list[tuple[list[JobId], str]] = []

    def remove(self: HTCondor, jobs: list[JobId], reason: str) -> int:
        asked.append((list(jobs), reason))
        return len(jobs)

    monkeypatch.setattr(HTCondor, "remove", remove)
    saved(store, job=JobId(7, 0))
    saved(store, id="p2", state=PilotState.ENDED, job=JobId(8, 0))
    assert main(["pilots", "remove", "p1", "p2", "--reason", "broken\nnode", "--config", file]) == 0
    assert asked == [([JobId(7, 0)], "broken node")]
    assert capsys.readouterr().out == "1 removed, 1 had ended\n"
    assert main(["pilots", "remove", "p1", "p9", "--config", file]) == 2
    assert len(asked) == 1
