"""The points of a run are those of its seed, and no part of the table is forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.choice import SIGNAL_NAMES, ChoiceError, choose, named
from tests.chaos.faults import FAULTS
from tests.chaos.gates import EARLY, LATE, STAGES


@given(st.integers(0, 10**9), st.integers(1, 400))
def test_there_are_as_many_points_as_asked_for_and_the_seed_decides_which(seed: int, count: int) -> None:
    points = choose(seed, count)
    assert [point.number for point in points] == list(range(1, count + 1))
    assert points == choose(seed, count)
    assert all(point.stage in point.fault.stages and point.payload in point.fault.payloads for point in points)


@given(st.integers(0, 10**9))
def test_sixty_points_have_both_signals_at_every_stage_and_every_other_fault(seed: int) -> None:
    points = choose(seed, 60)
    for signal_name in ("term", "kill"):
        struck = {point.stage for point in points if point.fault.name.startswith(f"{signal_name}-")}
        assert struck == set(STAGES)
    assert {point.fault.name for point in points} >= set(FAULTS) - SIGNAL_NAMES


def test_no_point_comes_twice_before_all_were_tried() -> None:
    size = sum(len(fault.stages) for fault in FAULTS.values())
    assert len({point.name for point in choose(7, size)}) == size
    assert len(choose(7, size + 10)) == size + 10


def test_what_cannot_be_had_here_is_no_point() -> None:
    assert all(point.fault.name != "cgroup-kill" for point in choose(3, 500, without=["cgroup-kill"]))


def test_points_can_be_named() -> None:
    first, second = named(1, "kill-keeper@running:sh, no-space@probe")
    assert (first.name, first.payload, second.name) == ("kill-keeper@running", "sh", "no-space@probe")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("kill-everybody@probe", "there is no fault 'kill-everybody'"),
        ("kill-keeper@probe", "is struck at idle, running, teardown"),
        ("clock-back@probe:sh", "is tried with pyz"),
    ],
)
def test_a_point_that_is_not_in_the_table_is_refused_with_what_is(names: str, said: str) -> None:
    with pytest.raises(ChoiceError, match=said):
        named(1, names)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_every_fault_says_where_it_strikes_and_what_must_come_of_it(fault: object) -> None:
    known = FAULTS[fault.name]  # type: ignore[attr-defined]
    assert known.stages
    assert set(known.stages) <= {*EARLY, *LATE}
    assert all(known.exits(stage) for stage in known.stages)
