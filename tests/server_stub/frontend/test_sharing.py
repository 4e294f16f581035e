"""Every waiting job is given to one entry, by rank, room and evenly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server_stub.frontend.sharing import Shares, pilots_per_job, share_jobs
from tests.server_stub.frontend.builders import group, offer


def shared(
    counts: list[int], room: list[float], *, rank: Any = 0, allowed: Any = True, parts: Any = 1, old: int = 0
) -> Shares:
    shape = (len(counts), len(room))
    groups = [group(count, old) for count in counts]
    arrays = [np.broadcast_to(np.array(value), shape) for value in (allowed, rank, parts)]
    return share_jobs(
        groups, np.array(counts), arrays[0], arrays[1], arrays[2], np.array(room), np.arange(len(room), dtype=np.intp)
    )


def test_entries_of_one_rank_share_evenly_as_far_as_they_have_room() -> None:
    assert shared([10], [100, 100, 100]).jobs.tolist() == [[4, 3, 3]]
    assert shared([10], [1, 100, 100]).jobs.tolist() == [[1, 5, 4]]
    assert shared([10], [1, 2, 3]).jobs.tolist() == [[1, 2, 3]]


def test_one_job_asks_for_one_pilot_however_many_entries_it_matches() -> None:
    assert shared([1], [100] * 1000).pilots.sum() == 1


def test_the_best_rank_comes_first_until_its_room_is_used() -> None:
    assert shared([10], [4, 100, 3], rank=[1, 0, 2]).jobs.tolist() == [[4, 3, 3]]


def test_a_group_with_one_entry_goes_before_one_that_has_others() -> None:
    found = shared([10, 10], [10, 10], allowed=[[True, True], [True, False]])
    assert found.jobs.tolist() == [[0, 10], [10, 0]]


def test_jobs_that_share_a_pilot_are_parts_of_one() -> None:
    found = shared([10], [2], parts=0.25)
    assert (found.jobs.tolist(), found.pilots.tolist()) == ([[8]], [2.0])


def test_what_is_left_over_fills_one_pilot_and_not_a_part_of_each() -> None:
    found = shared([10], [5, 5, 5], parts=0.125)
    assert (found.jobs.tolist(), found.pilots.tolist()) == ([[8, 2, 0]], [1, 0.25, 0])


def test_a_job_that_matches_nowhere_is_given_to_nobody() -> None:
    assert shared([10], [5, 5], allowed=False).jobs.sum() == 0


def test_old_jobs_count_at_the_entries_that_did_not_get_them() -> None:
    found = shared([1], [5, 5, 5], old=1)
    assert (found.pilots.tolist(), found.old.tolist()) == ([1, 0, 0], [0, 1, 0])


def test_a_part_of_a_pilot_is_the_largest_share_of_anything_in_it() -> None:
    groups = [group(cores=2), group(memory_mib=8000), group(gpus=1)]
    parts = pilots_per_job(groups, [offer(), offer(gpus=4, cores=64)], drain_seconds=0)
    assert parts.tolist() == [[0.25, 0.125], [0.5, 0.5], [0.125, 0.25]]


@pytest.mark.parametrize(
    ("length", "lifetime", "drain", "waves"),
    [(600, 86400, 3600, 6), (600, 1200, 3600, 2), (7200, 86400, 3600, 1), (0, 86400, 3600, 1)],
)
def test_short_jobs_run_one_after_the_other(length: int, lifetime: int, drain: float, waves: int) -> None:
    parts = pilots_per_job([group(cores=8, walltime_seconds=length)], [offer(walltime_seconds=lifetime)], drain)
    assert parts.tolist() == [[1 / waves]]


@given(st.data())
def test_jobs_are_neither_lost_while_there_is_room_nor_given_twice(data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(0, 50), min_size=1, max_size=4))
    room = data.draw(st.lists(st.integers(0, 30).map(float), min_size=1, max_size=5))
    rank = data.draw(st.lists(st.integers(0, 2), min_size=len(room), max_size=len(room)))
    found = shared(counts, room, rank=rank)
    assert (found.jobs >= 0).all()
    assert (found.jobs.sum(axis=1) <= counts).all()
    assert (found.pilots <= np.array(room)).all()
    assert found.jobs.sum() == min(sum(counts), sum(room))


@given(st.data())
def test_jobs_are_given_rank_by_rank_each_one_evenly_and_in_whole_pilots(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 60))
    room = data.draw(st.lists(st.integers(0, 9).map(float), min_size=1, max_size=8))
    rank = data.draw(st.lists(st.sampled_from([-np.inf, 0.0, 1.5, 2.0]), min_size=len(room), max_size=len(room)))
    together = data.draw(st.lists(st.sampled_from([1, 2, 4]), min_size=len(room), max_size=len(room)))
    found = shared([count], room, rank=rank, parts=[1 / jobs for jobs in together])
    expected = [0] * len(room)
    for value in sorted(set(rank), reverse=True):
        tier = [place for place, own in enumerate(rank) if own == value]
        most = {place: int(room[place]) * together[place] for place in tier}
        dealt = dict.fromkeys(tier, 0)
        for _ in range(min(count, sum(most.values()))):
            least = min(dealt[place] for place in tier if dealt[place] < most[place])
            dealt[next(place for place in tier if dealt[place] == least < most[place])] += 1
        left = sum(dealt.values())
        count -= left
        for place in tier:
            expected[place] = min(-(-dealt[place] // together[place]) * together[place], most[place], left)
            left -= expected[place]
    assert found.jobs.tolist() == [expected]
