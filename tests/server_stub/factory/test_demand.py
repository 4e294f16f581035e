"""What is wanted and what there is of it, as the store tells it."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server_stub.factory import demand
from server_stub.factory.demand import Held, OlderSetError
from server_stub.factory.experience import Experienced, Outcomes
from server_stub.factory.frontends import Caller, Frontend, FrontendError
from server_stub.factory.nodes import FACTS_BYTES, MOST_NODES, facts_of
from server_stub.factory.pilots import JobId, Pilot, PilotState
from server_stub.factory.requests import Accepted, Request, RequestSet, SetAnswer
from server_stub.factory.store import Store
from server_stub.frontend.removal import Removal

KEY = ("e", "f", "v")


def pilot(name: str, state: PilotState = PilotState.QUEUED, **more: Any) -> Pilot:
    made = Pilot(
        name, "e", "S", "pyz", "0", state, more.pop("submitted", 100.0), "/d", JobId(1, 0), vo="v", frontend="f"
    )
    return replace(made, **more)


def take(store: Store, sequence: int, *entries: str, frontend: str = "f", digest: str = "") -> SetAnswer:
    requests = [
        Request(entry=entry, vo="v", queued=3, pilots=9, remove=Removal.IDLE, idle=["a"], credentials=["c"])
        for entry in entries
    ]
    given = RequestSet(sequence=sequence, lifetime_seconds=60, requests=requests)
    answer = SetAnswer(sequence, 60.0 + sequence, [Accepted(entry, "v", 3, 9) for entry in entries], [])
    return demand.take_set(store, frontend, given, digest or str(sequence), answer)


def test_a_set_is_kept_whole_and_the_next_takes_its_place(store: Store) -> None:
    take(store, 1, "e", "d")
    take(store, 1, "e", frontend="g")
    take(store, 2, "e")
    (kept,) = demand.wanted(store, frontend="f")
    assert (kept.key, kept.queued, kept.pilots, kept.remove) == (KEY, 3, 9, Removal.IDLE)
    assert (kept.idle, kept.credentials, kept.expires) == (("a",), ("c",), 62.0)
    assert [one.frontend for one in demand.wanted(store, entry="e")] == ["f", "g"]
    assert {name: one[0] for name, one in demand.known_sets(store).items()} == {"f": 2, "g": 1}
    take(store, 3)
    assert demand.wanted(store, frontend="f") == []


def test_an_older_set_or_one_with_other_content_changes_nothing(store: Store) -> None:
    first = take(store, 5, "e")
    assert take(store, 5, "e") == first
    for sequence, digest in ((4, ""), (5, "other")):
        with pytest.raises(OlderSetError) as caught:
            take(store, sequence, "d", digest=digest)
        assert caught.value.known == 5
    assert [one.entry for one in demand.wanted(store)] == ["e"]


def test_what_limits_a_request_is_noted_and_outlives_a_newer_set(store: Store) -> None:
    take(store, 1, "e", "d")
    demand.note_limits(store, {KEY: "limits.held"})
    take(store, 2, "e", "d")
    assert {one.entry: one.limited_by for one in demand.wanted(store)} == {"e": "limits.held", "d": ""}


def test_of_copies_of_a_token_that_come_at_once_one_counts(store: Store) -> None:
    caller = Caller(Frontend("f", "", ("v",)), "once", time.time() + 60)
    told: list[str] = []

    def spend() -> None:
        try:
            demand.spend_token(store, caller)
            told.append("taken")
        except FrontendError:
            told.append("refused")

    threads = [threading.Thread(target=spend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == ["refused"] * 3 + ["taken"]
    demand.spend_token(store, replace(caller, frontend=Frontend("g", "", ("v",))))


def test_pilots_are_counted_by_state_entry_frontend_and_vo(store: Store) -> None:
    states = (PilotState.PREPARED, PilotState.QUEUED, PilotState.RUNNING, PilotState.HELD, PilotState.ENDED)
    for number, state in enumerate(states):
        store.save(pilot(f"p{number}", state, submitted=100.0 + number))
    store.save(pilot("g1", frontend="g", vo="w"))
    store.save(pilot("o1", PilotState.RUNNING, frontend="", vo=""))
    assert demand.unfinished(store) == {
        KEY: Held(2, 1, 1, 100.0), ("e", "g", "w"): Held(1, 0, 0, 100.0), ("e", "", ""): Held(0, 1)
    }  # fmt: skip
    assert set(demand.unfinished(store, frontend="g")) == {("e", "g", "w")}
    assert demand.submitted_since(store, 103.0) == {("e", "f"): 2}


def test_the_youngest_in_the_queue_come_first_and_only_those_with_a_job(store: Store) -> None:
    for number in range(4):
        store.save(pilot(f"p{number}", submitted=100.0 + number, grid_job="7" if number == 2 else ""))
    store.save(pilot("p4", submitted=200.0, job=None))
    store.save(pilot("g1", submitted=200.0, frontend="g"))
    assert [one.id for one in demand.queued_pilots(store, KEY, 2)] == ["p3", "p2"]
    assert [one.id for one in demand.queued_pilots(store, KEY, 2, besides=["p3"])] == ["p2", "p1"]
    assert [one.id for one in demand.queued_pilots(store, KEY, 9, unsubmitted=True)] == ["p3", "p1", "p0"]


def test_of_named_pilots_those_are_found_that_run_there(store: Store) -> None:
    for number, state in enumerate((PilotState.RUNNING, PilotState.QUEUED, PilotState.RUNNING)):
        store.save(pilot(f"p{number}", state))
    store.save(pilot("g1", PilotState.RUNNING, frontend="g"))
    names = ["p2", "g1", "p1", "nobody", "p0"]
    assert [one.id for one in demand.running_pilots(store, KEY, names)] == ["p2", "p0"]


def test_what_pilots_met_lately_is_told_by_entry(store: Store) -> None:
    now = time.time()
    ended = {"ended": now - 10, "submitted": now - 500}
    for number, took in enumerate((100.0, 103.0, 400.0)):
        more = {"started": now - 500 + took, "outcome": "ok", "jobs_started": 2, "jobs_failed": number}
        store.save(pilot(f"p{number}", PilotState.ENDED, **ended, **more))
    store.save(pilot("x", PilotState.REMOVED, **ended))
    store.save(pilot("y", PilotState.REMOVED, outcome="failed", **ended))
    known = Experienced(store).get(now=now)
    assert known.outcomes == {"e": Outcomes(4, 1, 6, 3)}
    assert known.start_seconds["e"] == pytest.approx(103, abs=10)


def test_what_is_known_is_made_anew_once_it_is_old(store: Store) -> None:
    now = time.time()
    known = Experienced(store)
    assert known.refresh(now=now).outcomes == {}
    store.save(pilot("p1", PilotState.ENDED, ended=now, outcome="ok"))
    assert known.get(now=now + 59).outcomes == known.refresh(now=now + 59).outcomes == {}
    assert known.refresh(now=now + 61).outcomes["e"].pilots == 1
    assert known.get(now=now + 62).outcomes["e"].pilots == 1


def report(value: Any = 4, **more: Any) -> dict[str, Any]:
    return {"node": {"cpu": {"usable": {"value": value, "unit": "cores", "status": "known", **more}}}}


def test_the_nodes_seen_last_are_kept_with_their_newest_facts(store: Store) -> None:
    for number in range(MOST_NODES + 2):
        store.save(pilot(f"p{number}", PilotState.ENDED, host=f"wn{number}"), report=report(number))
    store.save(pilot("again", PilotState.ENDED, host=f"wn{MOST_NODES + 1}"), report=report(99))
    seen = Experienced(store).get(now=time.time()).nodes["e"]
    numbers = [node.facts["cpu.usable"]["value"] for node in seen]
    assert numbers == [99, *range(MOST_NODES, 1, -1)]


@pytest.mark.parametrize(
    "document",
    [
        None, [], {}, {"node": None}, {"node": []}, {"node": {"cpu": 3}}, {"node": {"cpu": {"usable": []}}},
        report(status="unknown"), report(status=["known"]), report("x" * 5000),
        {"node": {"\n": {"x": {"status": "known"}}}},
    ],
)  # fmt: skip
def test_what_is_no_fact_is_left_out(document: Any) -> None:
    assert facts_of(document) == {}


def test_a_report_of_a_stranger_fills_no_more_than_its_room() -> None:
    many = {"node": {"x": {f"y{number}": {"value": "z" * 1000, "status": "known"} for number in range(1000)}}}
    assert 0 < len(str(facts_of(many))) < 2 * FACTS_BYTES


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("value", "status", "unit", "x")), inner)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=3), st.dictionaries(st.text(max_size=3), JSON, max_size=3), max_size=3))
def test_whatever_a_report_holds_facts_are_made_of_it(groups: dict[str, Any]) -> None:
    for fact in facts_of({"node": groups}).values():
        assert set(fact) <= {"value", "unit", "status"}
