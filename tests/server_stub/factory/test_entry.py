"""Entries are read whole, with every mistake named, and say when and for whom they take pilots."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.config_check import Problem
from pilot_agent.model import PilotError
from server_stub.entries import read_factory
from server_stub.factory.entry import Downtime, Entry, Limits, read_entry
from server_stub.factory.pilots import PilotState
from server_stub.factory.pressure import require_room
from server_stub.factory.reader import Reader
from server_stub.factory.store import Store, row_of
from tests.server_stub.factory.test_store import pilot

FULL: dict[str, Any] = {
    "name": "site-a",
    "site": "S",
    "payload": "sh",
    "type": "batch slurm",
    "contact": "pilots@login.example.org",
    "queue": "long",
    "cores": "auto",
    "memory_mib": 16000,
    "gpus": 2,
    "walltime_seconds": 86400,
    "vos": ["alpha", "beta"],
    "limits": {"total": 100, "idle": 10, "held": 5, "per_vo": {"beta": 3}, "per_minute": 20},
    "downtimes": [{"from": "2026-01-31T08:00:00Z", "until": "2026-01-31T10:00+01:00", "reason": "new disks"}],
    "start_directory": "/scratch",
    "proxies": ["http://squid.example.org:3128"],
}


def read(**changes: Any) -> tuple[Entry, list[str]]:
    problems: list[Problem] = []
    entry = read_entry(Reader({**FULL, **changes}, "e.", "/", problems))
    return entry, [f"{problem.path}: {problem.message}" for problem in problems]


def test_an_entry_holds_what_was_written() -> None:
    entry, problems = read()
    assert problems == []
    assert (entry.type, entry.cores, entry.memory_mib, entry.vos) == ("batch slurm", None, 16000, ("alpha", "beta"))
    assert entry.limits == Limits(100, 10, 5, {"beta": 3}, 20)
    assert entry.downtimes == (Downtime(1769846400.0, 1769850000.0, "new disks"),)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"type": "batch slrum"}, "e.type: 'batch slrum' is none of local, batch slurm"),
        ({"type": "batch slrum"}, "did you mean batch slurm?"),
        ({"type": "condor", "contact": None}, "e.contact: missing; an entry of the type 'condor' is reached at one"),
        ({"contact": "https://login/"}, "e.contact: 'https://login/' is no login node; expected [USER@]HOST[:PORT]"),
        ({"contact": "host:99/x"}, "e.contact: 'host:99/x' is no login node"),
        ({"python": ["python3"]}, "e.python[0]: 'python3' does not fit"),
        ({"image": "a b"}, "e.image: 'a b' does not fit"),
        ({"submit": {"payload": "mail"}}, "e.submit.payload: 'mail' is none of url, file"),
        ({"submit": {"payload": "url"}}, "e.submit.payload: must be file: the blahp fetches nothing"),
        ({"submit": {"schedd": "ap"}}, "e.submit.schedd: is only for entries of the type condor"),
        ({"submit": {"arguments": "-t 5; reboot"}}, "e.submit.arguments: '-t 5; reboot' does not fit"),
        ({"submit": {"lines": {"Executable": "/bin/sh"}}}, "e.submit.lines.Executable: is decided by the factory"),
        ({"submit": {"lines": {"a b": "1"}}}, "e.submit.lines.a b: is no name of a submit command"),
        ({"submit": {"lines": {"rank": "1\nqueue 9"}}}, "e.submit.lines.rank: an expression is one line"),
        ({"submit": {"lines": {"rank": "$(Cluster)"}}}, "e.submit.lines.rank: an expression is one line"),
        ({"submit": {"payloda": "file"}}, "e.submit.payloda: unknown key; did you mean payload?"),
        (
            {"type": "local", "submit": {"whole_node": True}},
            "e.submit.whole_node: is only for entries of the type batch",
        ),
        ({"cloud": {"image": "ami-1"}}, "e.cloud: is only for entries of the types ec2, gce, azure"),
        ({"type": "ec2"}, "e.cloud.image: missing; a machine of ec2 needs it"),
        ({"type": "ec2"}, "e.cloud.access_key: missing; EC2 needs the paths access_key and secret_key"),
        ({"type": "gce"}, "e.cloud.zone: missing; a machine of gce needs it"),
        ({"type": "gce"}, "e.cloud.project: missing; a machine of gce needs it"),
        ({"stale": {"queued_seconds": 1}}, "e.stale.queued_seconds: 1 is not in 60.."),
        ({"holds": {"release": ["12"]}}, "e.holds.release[0]: expected an integer in 0..999, found '12'"),
        ({"holds": {"most": 3}}, "e.holds.most: unknown key"),
        ({"contact": "x\n+evil = 1"}, "e.contact: 'x\\n+evil = 1' does not fit"),
        ({"queue": "a b"}, "e.queue: 'a b' does not fit"),
        ({"cores": "all"}, "e.cores: expected an integer, found 'all'"),
        ({"cores": 0}, "e.cores: 0 is not in 1.."),
        ({"vos": "alpha"}, "e.vos: expected a list, found 'alpha'"),
        ({"vos": ["a", "b c"]}, "e.vos[1]: 'b c' does not fit"),
        ({"limits": {"totl": 3}}, "e.limits.totl: unknown key; did you mean total?"),
        ({"limits": {"per_vo": {"gamma": 3}}}, "e.limits.per_vo: 'gamma' is none of the entry's vos"),
        ({"limits": {"per_vo": {"beta": -3}}}, "e.limits.per_vo.beta: -3 is not in 0.."),
        ({"limits": 7}, "e.limits: expected a mapping, found 7"),
        ({"max_pilots": 7}, "e.max_pilots: is the same as limits.total; give one of the two"),
        ({"downtimes": [{"from": "tomorrow", "until": 3}]}, "e.downtimes[0].from: expected a moment with its zone"),
        ({"downtimes": [{"from": "2026-01-31T08:00:00", "until": "x"}]}, "e.downtimes[0].from: expected a moment"),
        ({"downtimes": [None]}, "e.downtimes[0]: expected a mapping, found None"),
        ({"start_directory": "scratch"}, "e.start_directory: 'scratch' does not fit"),
        ({"proxies": ["squid"]}, "e.proxies[0]: 'squid' does not fit"),
        ({"qeue": "long"}, "e.qeue: unknown key; did you mean queue?"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(changes: dict[str, Any], said: str) -> None:
    assert any(said in problem for problem in read(**changes)[1]), read(**changes)[1]


def test_entries_of_other_files_come_after_the_own_ones(document: dict[str, Any], tmp_path: Path) -> None:
    own = document["entries"]
    document |= {"entries": own[:1], "entries_files": ["more.yaml"]}
    (tmp_path / "more.yaml").write_text(json.dumps({"entries": own[1:]}))
    (tmp_path / "factory.json").write_text(json.dumps(document))
    assert [entry.name for entry in read_factory(str(tmp_path / "factory.json")).entries] == ["site-a", "site-b"]
    (tmp_path / "more.yaml").unlink()
    with pytest.raises(PilotError, match=r"more\.yaml of entries_files cannot be read: No such file"):
        read_factory(str(tmp_path / "factory.json"))


OPEN = read(downtimes=[])[0]


def refused(entry: Entry, store: Store, count: int = 1, vo: str = "alpha") -> str:
    try:
        require_room(entry, count, store, vo=vo, now=1769848000.0)
    except PilotError as error:
        return f"{error.failure.code}: {error.failure.message}"
    return ""


def test_an_entry_in_its_downtime_takes_no_pilots(store: Store) -> None:
    assert "entry.closed: the entry site-a takes no pilots: downtime: new disks" in refused(read()[0], store)
    assert refused(OPEN, store) == ""
    assert "not enabled" in refused(replace(OPEN, enabled=False), store)
    store.close_entry("site-a", "they asked us")
    assert "they asked us" in refused(OPEN, store)


def test_only_the_vos_of_an_entry_use_it(store: Store) -> None:
    assert "entry.vo: the entry site-a is for alpha, beta and not for gamma" in refused(OPEN, store, vo="gamma")
    assert refused(replace(OPEN, vos=()), store, vo="gamma") == ""


@pytest.mark.parametrize(
    ("state", "there", "vo", "count", "said"),
    [
        (PilotState.RUNNING, 95, "alpha", 6, "room for 5 of its 100 pilots (limits.total), 6 asked"),
        (PilotState.RUNNING, 95, "alpha", 5, ""),
        (PilotState.QUEUED, 9, "alpha", 2, "room for 1 of its 10 pilots (limits.idle), 2 asked"),
        (PilotState.HELD, 5, "alpha", 1, "room for 0 of its 5 pilots (limits.held), 1 asked"),
        (PilotState.RUNNING, 2, "beta", 2, "room for 1 of its 3 pilots (limits.per_vo.beta), 2 asked"),
        (PilotState.ENDED, 200, "alpha", 10, ""),
        (PilotState.ENDED, 0, "alpha", 11, "room for 10 of its 10 pilots (limits.idle), 11 asked"),
    ],
)
def test_every_limit_of_an_entry_is_kept(
    store: Store, state: PilotState, there: int, vo: str, count: int, said: str
) -> None:
    with store.write() as session:
        session.add_all(row_of(replace(pilot(f"p{number}"), state=state, vo=vo)) for number in range(there))
    assert said in refused(OPEN, store, count, vo)
    assert bool(refused(OPEN, store, count, vo)) == bool(said)


def test_pilots_that_are_held_count_for_their_own_frontend(store: Store) -> None:
    held = replace(pilot(), state=PilotState.HELD, frontend="f")
    with store.write() as session:
        session.add_all(row_of(replace(held, id=f"p{number}")) for number in range(5))
    require_room(OPEN, 1, store, vo="alpha", frontend="g", now=1769848000.0)
    with pytest.raises(PilotError, match=r"limits\.held"):
        require_room(OPEN, 1, store, vo="alpha", frontend="f", now=1769848000.0)


def test_no_more_pilots_are_submitted_in_a_minute_than_may_be(store: Store) -> None:
    store.save(replace(pilot(submitted=1769847990.0), state=PilotState.ENDED))
    few = replace(OPEN, limits=replace(OPEN.limits, per_minute=2))
    assert refused(few, store, 1) == ""
    assert "limits.per_minute" in refused(few, store, 2)
