"""The store keeps pilots, every change of state, and reports, over a restart too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from server_stub.entries import Factory
from server_stub.store import FINAL, JobId, Pilot, PilotState, Store


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
