"""A whole cycle: what waits, what there is, and what is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from server_stub.frontend.cycle import Decision, Memory, Request, Settings, Snapshot, decide
from server_stub.frontend.jobs import JobRecord, job_table
from server_stub.frontend.matching import Vo, policy
from server_stub.frontend.offers import Offer, Outcomes
from server_stub.frontend.pressure import EntryState
from server_stub.frontend.removal import Removal
from server_stub.frontend.slots import SlotRecord, slot_table
from tests.server_stub.frontend.builders import NOW, offer, record, slot

SETTINGS = Settings(policy(), Vo("example"))


def decided(
    jobs: list[JobRecord],
    offers: list[Offer],
    slots: list[SlotRecord] | None = None,
    memory: Memory | None = None,
    settings: Settings = SETTINGS,
    **more: Any,
) -> Decision:
    snapshot = Snapshot(NOW, job_table({"ap": jobs}), slot_table(slots or []), offers, **more)
    return decide(snapshot, settings, memory or Memory())


def requests(decision: Decision) -> dict[str, tuple[int, int, str]]:
    return {request.entry: (request.queued, request.pilots, request.remove.value) for request in decision.requests}


def test_waiting_jobs_ask_for_pilots_at_the_entries_that_suit_them() -> None:
    found = decided([record(cores=8)] * 60, [offer("a"), offer("b"), offer("small", cores=4)])
    assert requests(found) == {"a": (10, 35, "NO"), "b": (10, 35, "NO"), "small": (0, 0, "NO")}


def test_nothing_waits_and_nothing_is_asked_for() -> None:
    assert requests(decided([], [offer("a")])) == {"a": (0, 0, "NO")}
    assert decided([record()], []).requests == ()


def test_idle_pilots_are_used_first() -> None:
    pilots = [slot("a", f"p{n}") for n in range(5)]
    assert requests(decided([record(cores=8)] * 5, [offer("a")], pilots)) == {"a": (0, 0, "NO")}
    useless = [slot("a", f"p{n}", retires=NOW + 60) for n in range(5)]
    assert requests(decided([record(cores=8)] * 5, [offer("a")], useless)) == {"a": (1, 6, "NO")}


def test_where_most_pilots_fail_only_a_few_are_tried() -> None:
    broken = offer("a", outcomes=Outcomes(pilots=50, pilots_failed=45))
    assert requests(decided([record(cores=8)] * 60, [broken, offer("b")])) == {"a": (1, 2, "NO"), "b": (19, 67, "NO")}


def test_an_entry_whose_queue_does_not_move_comes_last() -> None:
    stuck = {"a": EntryState(queued=9, oldest_queued_seconds=7200)}
    jobs = [record(cores=8)] * 60
    assert requests(decided(jobs, [offer("a"), offer("b")], states=stuck))["b"][0] == 20
    assert requests(decided(jobs, [offer("a")], states=stuck))["a"][0] == 20


def test_jobs_of_an_access_point_that_starts_no_more_are_left_out() -> None:
    assert requests(decided([record()], [offer("a")], closed=frozenset(["ap"]))) == {"a": (0, 0, "NO")}


def test_a_downtime_takes_the_queue_back_and_lets_jobs_end() -> None:
    there = {"a": EntryState(queued=3, running=2)}
    memory = Memory(excess_cycles={"a": 20})
    found = decided([record(cores=8)] * 9, [offer("a", downtime=True)], memory=memory, states=there)
    assert requests(found) == {"a": (0, 0, "IDLE")}


def test_what_nobody_needs_is_taken_back_when_that_has_lasted() -> None:
    memory = Memory()
    steps = []
    for _ in range(12):
        found = decided([], [offer("a")], [slot("a")], memory, states={"a": EntryState(queued=2, running=1)})
        memory = found.memory
        steps.append(found.requests[0].remove.value)
    assert steps == ["NO"] * 5 + ["WAIT"] * 5 + ["IDLE"] * 2
    whole = decided([], [offer("a")], [slot("a")], memory, states={"a": EntryState(running=1)})
    assert whole.requests[0].remove is Removal.WHOLE
    assert whole.requests[0].idle == ("p",)
    assert whole.memory.requests["a"].idle == ()
    assert decided([record()], [offer("a")], [slot("a")], memory).memory.excess_cycles == {"a": 0}


def test_only_pilots_without_any_job_are_named_and_none_where_a_job_may_begin() -> None:
    memory = Memory(excess_cycles={"a": 20})
    there = {"a": EntryState(running=3)}
    slots = [slot("a", "idle"), slot("a", "half"), slot("a", "half", busy=True), slot("a", ""), slot("b", "other")]
    found = decided([], [offer("a"), offer("b")], slots, memory, states=there)
    assert [request.idle for request in found.requests] == [("idle",), ()]
    large = slot("a", "large", cores=64, memory_mib=1 << 20)
    useful = decided([record(cores=32)], [offer("a", cores=64)], [*slots, large], memory, states=there)
    assert (useful.requests[0].remove, useful.requests[0].idle) == (Removal.WHOLE, ())


def test_no_pilot_can_have_another_one_taken_back_by_calling_itself_that_one_and_idle() -> None:
    memory = Memory(excess_cycles={"a@east": 20})
    there = {"a@east": EntryState(running=3)}
    slots = [
        slot("a@east", "busy#7.0", busy=True), slot("a@east", "liar#7.0"), slot("a@west", "busy#8.0", busy=True),
        slot("a@east", "idle#8.0"),
    ]  # fmt: skip
    found = decided([], [offer("a@east")], slots, memory, states=there)
    assert found.requests[0].idle == ("idle#8.0",)


def test_a_partial_query_freezes_the_last_requests_and_takes_nothing_back() -> None:
    before = Memory({"a": Request("a", 4, 9, Removal.WHOLE)}, excess_cycles={"a": 30})
    found = decided([], [offer("a"), offer("new")], memory=before, missing=("schedd ap2.example.org",))
    assert requests(found) == {"a": (4, 9, "NO"), "new": (0, 0, "NO")}
    assert found.frozen == "no answer, or only a part of it, from schedd ap2.example.org"
    assert found.memory.excess_cycles == {"a": 30}, "the cycles with an excess are not counted on"


def test_no_more_is_asked_for_when_queries_fail_for_long() -> None:
    memory = Memory({"a": Request("a", 4, 9)})
    asked = []
    for _ in range(12):
        found = decided([], [offer("a")], memory=memory, missing=("collector",))
        memory = found.memory
        asked.append(found.requests[0].queued)
    assert asked == [4] * 10 + [0] * 2
    assert found.requests[0].pilots == 9
    assert decided([record()], [offer("a")], memory=memory).memory.frozen_cycles == 0


def test_old_jobs_are_counted_at_a_second_entry() -> None:
    found = decided([record(NOW - 3600)], [offer("a"), offer("b")])
    assert requests(found) == {"a": (1, 2, "NO"), "b": (1, 2, "NO")}


def test_the_rate_of_all_entries_together_is_kept() -> None:
    totals = replace(SETTINGS.totals, new_per_cycle=7)
    found = decided(
        [record(cores=8)] * 600, [offer(f"e{n}") for n in range(5)], settings=replace(SETTINGS, totals=totals)
    )
    assert sum(request.queued for request in found.requests) == 7


def test_a_decision_tells_where_it_comes_from() -> None:
    found = decided([record(cores=8)] * 9, [offer("a"), offer("b", downtime=True)], [slot("a")])
    assert found.shares is not None
    assert found.matches is not None
    assert (found.taken, found.shares.jobs.tolist()) == ((1,), [[8, 0]])
    assert found.matches.refused == {"b": "it is in downtime"}
    assert found.states["a"].idle_slots == 1
