"""The store keeps pilots, every change of state, and reports, over a restart too."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from server_stub.entries import Factory
from server_stub.factory import overview
from server_stub.factory.pilots import FINAL, JobId, Pilot, PilotState, Score, Scores
from server_stub.factory.store import Store


def pilot(name: str = "p1", *, entry: str = "site-a", submitted: float = 1.0) -> Pilot:
    return Pilot(name, entry, "Example_T2", "pilot.pyz", "ab" * 32, PilotState.PREPARED, submitted, f"/state/{name}")


def test_a_stored_pilot_comes_back_as_it_was(store: Store) -> None:
    full = replace(
        pilot(), state=PilotState.ENDED, job=JobId(7, 0), ended=9.5, exit_code=66, host="wn1", outcome="failed",
        failure_kind="config", failure_code="config.invalid", message="é", jobs_started=3,
    )  # fmt: skip
    store.save(full)
    assert store.get("p1") == full
    assert store.get("p2") is None


def test_every_change_of_state_is_kept_in_order_and_only_changes_are(store: Store) -> None:
    one = pilot()
    states = [PilotState.QUEUED, PilotState.QUEUED, PilotState.RUNNING, PilotState.ENDED]
    for state in states:
        one = replace(one, state=state)
        store.save(one)
    assert [state for _, state in store.changes("p1")] == [PilotState.QUEUED, PilotState.RUNNING, PilotState.ENDED]


def test_a_report_is_stored_with_its_pilot_and_replaced_by_a_newer_one(store: Store) -> None:
    assert store.report("p1") is None
    store.save(pilot(), report={"schema": "x", "nested": {"list": [1, None, "ü"]}})
    store.save(pilot(), report={"schema": "y"})
    assert store.report("p1") == {"schema": "y"}


def test_pilots_are_listed_by_submission_entry_and_whether_more_is_to_come(store: Store) -> None:
    store.save(pilot("late", submitted=3.0))
    store.save(replace(pilot("early", submitted=1.0), state=PilotState.ENDED))
    store.save(pilot("other", entry="site-b", submitted=2.0))
    assert [one.id for one in store.pilots()] == ["early", "other", "late"]
    assert [one.id for one in store.pilots(entry="site-a")] == ["early", "late"]
    assert [one.id for one in store.pilots(unfinished=True)] == ["other", "late"]
    assert store.count_unfinished("site-a") == 1


@pytest.mark.parametrize("state", PilotState)
def test_only_final_states_free_an_entrys_place(store: Store, state: PilotState) -> None:
    store.save(replace(pilot(), state=state))
    assert store.count_unfinished("site-a") == (0 if state in FINAL else 1)


def test_what_one_process_wrote_another_reads(factory: Factory, store: Store) -> None:
    store.save(pilot())
    with Store(factory.database) as second:
        second.save(replace(pilot(), state=PilotState.RUNNING))
    found = store.get("p1")
    assert found is not None
    assert found.state is PilotState.RUNNING


def test_the_store_is_a_file_in_the_factorys_state_directory(factory: Factory, store: Store) -> None:
    store.save(pilot())
    assert Path(factory.state, "factory.sqlite").stat().st_size > 0


def test_what_a_pilot_sends_meanwhile_is_not_lost_by_who_knew_less(store: Store) -> None:
    known = pilot()
    store.save(known)
    store.save(replace(known, outcome="failed", report=True), known=known, report={"schema": "x"})
    store.save(replace(known, state=PilotState.RUNNING, host="wn1"), known=known)
    found = store.get("p1")
    assert found is not None
    assert (found.state, found.host, found.outcome, found.report) == (PilotState.RUNNING, "wn1", "failed", True)
    assert [state for _, state in store.changes("p1")] == [PilotState.PREPARED, PilotState.RUNNING]


def add(store: Store, lines: bytes, upto: int, limit_bytes: int = 1000) -> bool:
    return store.add_events("p1", lines, upto=upto, dropped=0, limit_bytes=limit_bytes)


def test_events_that_come_twice_are_kept_once_and_in_order(store: Store) -> None:
    store.save(pilot())
    for lines, upto in ((b"b\n", 4), (b"a\n", 2), (b"b\n", 4)):
        assert add(store, lines, upto)
    assert b"".join(store.events("p1")) == b"a\nb\n"


def test_a_pilot_sends_so_many_events_and_no_more(store: Store) -> None:
    store.save(pilot())
    assert [add(store, b"x" * 40, upto, 100) for upto in (40, 80, 120)] == [True, True, False]
    assert not store.add_events("p2", b"", upto=1, dropped=0, limit_bytes=100)
    assert b"".join(store.events("p1")) == b"x" * 80


def test_scores_of_a_report_replace_those_that_came_before_it(store: Store) -> None:
    store.save(pilot())
    store.add_scores(pilot(), [Score("hash", "MB/s", 1.0, "CPU"), Score("db12", "", 9.0, "CPU")])
    benchmarks = [{"name": "hash", "score": 2, "unit": "MB/s"}]
    store.save(pilot(), report={"benchmarks": benchmarks, "node": {"cpu": {"model": {"value": "CPU"}}}})
    assert store.scores() == [
        Scores("db12", "", "site-a", "CPU", (9.0,)),
        Scores("hash", "MB/s", "site-a", "CPU", (2.0,)),
    ]
    assert store.scores(benchmark="hash", entry="site-b") == []


def test_last_words_and_signs_of_life_are_kept(store: Store) -> None:
    store.save(pilot())
    assert store.last_words("p1") == ""
    store.add_last_words("p1", "the node went down \u00e9")
    store.heard("p1")
    found = store.get("p1")
    assert found is not None
    assert found.seen is not None
    assert store.last_words("p1") == "the node went down \u00e9"


def test_an_entry_is_closed_with_a_reason_until_it_is_opened(store: Store) -> None:
    store.close_entry("site-a", "their disks are full")
    assert store.closed_entries() == {"site-a": "their disks are full"}
    store.close_entry("site-a", "")
    assert store.closed_entries() == {}


def test_a_token_counts_for_its_own_pilot_until_it_is_revoked(store: Store) -> None:
    for jti in ("a", "b", "c"):
        store.note_token(jti, "p2" if jti == "c" else "p1", issued=1.0, expires=2.0)
    assert [store.token_counts("a", name) for name in ("p1", "p2")] == [True, False]
    assert (store.revoke(jti="a"), store.revoke(jti="a"), store.revoke(pilot_id="p1")) == (1, 0, 1)
    assert [store.token_counts(jti, "p1") for jti in ("a", "b", "unknown")] == [False, False, False]
    assert store.token_counts("c", "p2")


def test_a_report_with_what_no_text_column_takes_comes_back_as_it_was(store: Store) -> None:
    strange = {"a": "\u0000\ud800\U0001f600", "b": [1e308, -0.0, 2**80]}
    store.save(pilot(), report=strange)
    assert store.report("p1") == strange


def test_scores_are_summed_up_by_benchmark_entry_and_processor(store: Store) -> None:
    told = [
        ("site-a", 100, 3.0),
        ("site-a", 200, 9.0),
        ("site-a", 300, 4.0),
        ("site-a", 400, 5.0),
        ("site-b", 200, 7.0),
    ]
    for number, (entry, at, scored) in enumerate(told):
        one = replace(pilot(f"s{number}", entry=entry), submitted=at)
        store.save(one)
        store.add_scores(one, [Score("hash", "MB/s", scored, "CPU")])
    whole = [overview.ScoreRange("hash", "MB/s", "site-a", "CPU", 4, 3.0, 4.5, 9.0),
             overview.ScoreRange("hash", "MB/s", "site-b", "CPU", 1, 7.0, 7.0, 7.0)]  # fmt: skip
    assert overview.score_ranges(store) == whole
    assert overview.score_ranges(store, entry="site-b", benchmark="hash") == whole[1:]
    assert overview.score_ranges(store, since=250.0) == [
        overview.ScoreRange("hash", "MB/s", "site-a", "CPU", 2, 4.0, 4.5, 5.0)
    ]
    assert overview.score_ranges(store, benchmark="disk") == []


def test_signs_of_life_wait_for_each_other_and_make_nobody_older(store: Store) -> None:
    for name in ("p1", "p2", "p3"):
        store.save(pilot(name))
    store.heard("p1")
    first = (store.get("p1") or pilot()).seen
    assert first is not None
    store._heard_due = math.inf  # however long this takes
    for name in ("p1", "p2", "p3", "unknown"):
        store.heard(name)
    assert (store.get("p2") or pilot()).seen is None
    newest = first + 3600
    store.save(replace(pilot("p3"), seen=newest), known=pilot("p3"))
    store.write_heard()
    found = {one.id: one.seen for one in store.pilots()}
    assert found["p1"] is not None
    assert found["p1"] >= first
    assert found["p2"] is not None
    assert found["p3"] == newest


def test_a_store_that_is_closed_has_written_who_was_heard(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'own.sqlite'}"
    with Store(url) as store:
        store.save(pilot())
        store.save(pilot("p2"))
        store.heard("p1")
        store.heard("p2")
    with Store(url) as store:
        assert (store.get("p2") or pilot()).seen is not None
