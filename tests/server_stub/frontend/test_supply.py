"""Jobs that the pool's own slots will take ask for no pilot; slots that no job can use are no supply."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from server_stub.frontend.groups import JobGroup
from server_stub.frontend.slots import SlotRecord, slot_table
from server_stub.frontend.supply import Supply, supply
from tests.server_stub.frontend.builders import NOW, group, slot


def supplied(groups: list[JobGroup], slots: list[SlotRecord], allowed: Any = True, **more: Any) -> Supply:
    matrix = np.broadcast_to(np.array(allowed), (len(groups), 2))
    return supply(groups, matrix, slot_table(slots), ["e", "f"], NOW, **more)


def test_a_slot_takes_as_many_jobs_as_fit_into_it() -> None:
    assert supplied([group(10, cores=3)], [slot(), slot("f")]).taken.tolist() == [4]
    assert supplied([group(10, memory_mib=9000)], [slot(), slot("f")]).taken.tolist() == [2]
    assert supplied([group(3, cores=3)], [slot(), slot("f")]).taken.tolist() == [3]


def test_what_one_group_takes_the_next_does_not_get() -> None:
    found = supplied([group(10), group(10)], [slot()], allowed=[[True, True], [True, False]])
    assert found.taken.tolist() == [0, 8], "who has fewer entries chooses first"


def test_a_slot_whose_pilot_leaves_too_soon_is_no_supply() -> None:
    found = supplied([group(10, walltime_seconds=3600)], [slot(retires=NOW + 3599), slot("f", retires=NOW + 3600)])
    assert found.taken.tolist() == [8]
    assert (found.idle.tolist(), found.useless.tolist()) == ([1, 1], [1, 0])


def test_a_slot_that_no_job_can_use_is_idle_and_useless() -> None:
    found = supplied([group(10, gpus=1)], [slot(), slot("f", gpus=1)])
    assert found.taken.tolist() == [1]
    assert found.useless.tolist() == [1, 0]


def test_a_slot_that_some_job_could_use_is_not_useless_although_others_were_quicker() -> None:
    assert supplied([group(1)], [slot(), slot("f")]).useless.tolist() == [0, 0]
    assert supplied([], [slot(), slot("f")]).useless.tolist() == [1, 1]


def test_busy_and_foreign_slots_are_not_idle() -> None:
    found = supplied([group(10)], [slot(busy=True), slot("elsewhere"), slot(open=False)])
    assert (found.taken.tolist(), found.idle.tolist()) == ([0], [0, 0])


def test_busy_slots_that_will_be_free_before_a_new_pilot_could_come_count_for_their_share() -> None:
    busy = [slot(pilot=f"p{n}", busy=True, cores=1, memory_mib=2000) for n in range(30)]
    found = supplied([group(100)], busy, lead_seconds=600, job_seconds=3600)
    assert found.taken.tolist() == [5]
    assert supplied([group(100)], busy, lead_seconds=600).taken.tolist() == [0]


def test_busy_slots_of_pilots_near_their_end_will_not_be_free() -> None:
    busy = [slot(pilot=f"p{n}", busy=True, retires=NOW + 4000) for n in range(30)]
    assert supplied([group(100)], busy, lead_seconds=600, job_seconds=600).taken.tolist() == [0]


amounts = st.integers(1, 12)
jobs = st.builds(group, st.integers(0, 30), cores=amounts, memory_mib=amounts.map(lambda n: n * 1000))
slots = st.builds(
    slot, st.sampled_from("efx"), busy=st.booleans(), cores=amounts, memory_mib=amounts.map(lambda n: n * 999)
)


@given(st.lists(jobs, max_size=5), st.lists(slots, max_size=12))
def test_no_more_is_taken_than_waits_and_than_there_is(groups: list[JobGroup], given_slots: list[SlotRecord]) -> None:
    found = supplied(groups, given_slots)
    idle = [record for record in given_slots if not record.busy and record.entry in "ef"]
    assert all(0 <= taken <= group.idle for taken, group in zip(found.taken, groups, strict=True))
    for column in (0, 1):
        used = sum(int(taken) * group.demand[:2][column] for taken, group in zip(found.taken, groups, strict=True))
        assert used <= sum((record.cores, record.memory_mib)[column] for record in idle)
    assert (found.useless <= found.idle).all()
    assert found.idle.sum() == len(idle)
