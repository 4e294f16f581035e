"""How many pilots an entry's queue holds: GlideinWMS's numbers, and where they are meant to differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server_stub.frontend.pressure import (
    Ceiling,
    EntryState,
    Limits,
    Totals,
    Tuning,
    limit_rate,
    missing_pilots,
    no_rise,
    pilots_to_allow,
    queued_to_keep,
    steadied,
)

NOTHING = EntryState()


def kept(missing: int, old: float = 0, entry: EntryState = NOTHING, limits: Limits | None = None, **more: Any) -> int:
    total, totals = more.pop("total", entry), more.pop("totals", Totals())
    return queued_to_keep(missing, old, entry, limits or Limits(), total, totals, Tuning(), **more)


@pytest.mark.parametrize(
    ("missing", "old", "asked"),
    [
        (0, 0, 0),
        (1, 0, 1),  # at least one
        (30, 0, 10),  # a third at once
        (30, 12, 14),  # and a third of the old ones
        (30, 30, 15),  # but no more of those than the reserve
        (1, 1, 1),  # never more than what is missing
        (900, 0, 33),  # of the room below the limits, idle slots here
    ],
)
def test_a_part_of_what_is_missing_is_asked_for(missing: int, old: float, asked: int) -> None:
    assert kept(missing, old) == asked


@pytest.mark.parametrize(
    ("entry", "total", "asked"),
    [
        (EntryState(running=9990, registered=9990), NOTHING, 3),
        (EntryState(running=10000, registered=10000), NOTHING, 0),
        (EntryState(idle_slots=100), NOTHING, 0),
        (NOTHING, EntryState(running=100000), 0),
        (NOTHING, EntryState(idle_slots=1000), 0),
        (EntryState(idle_slots=6), NOTHING, 15),
        (NOTHING, EntryState(running=90001), 15),
        (EntryState(idle_slots=6), EntryState(running=90001, idle_slots=201), 3),
    ],
)
def test_limits_stop_and_curbs_halve(entry: EntryState, total: EntryState, asked: int) -> None:
    assert kept(90, 0, entry, total=total) == asked


def test_pilots_that_wait_already_and_are_missing_are_kept() -> None:
    assert kept(30, 0, EntryState(queued=25)) == 25
    assert kept(30, 0, EntryState(queued=40)) == 30


def test_pilots_that_are_starting_are_not_asked_for_again() -> None:
    starting = EntryState(running=20, registered=5)
    assert missing_pilots(20, 0, starting, Limits()) == 5
    assert missing_pilots(10, 0, starting, Limits()) == 0


def test_a_part_of_a_pilot_is_a_pilot() -> None:
    assert missing_pilots(0.1, 0, NOTHING, Limits()) == 1
    assert missing_pilots(0.5, 0.6, NOTHING, Limits()) == 2


def test_an_entry_is_kept_warm_without_any_job() -> None:
    assert missing_pilots(0, 0, EntryState(queued=2, running=1, registered=1), Limits(least_pilots=5)) == 4
    assert pilots_to_allow(0, NOTHING, Limits(least_pilots=5), Tuning()) == 5


@pytest.mark.parametrize(("missing", "busy", "allowed"), [(0, 7, 7), (10, 0, 12), (20, 100, 139), (0, 0, 0)])
def test_an_entry_may_become_a_little_larger_than_its_jobs_need(missing: int, busy: int, allowed: int) -> None:
    entry = EntryState(running=busy, registered=busy, busy=busy)
    assert pilots_to_allow(missing, entry, Limits(), Tuning()) == allowed
    assert pilots_to_allow(missing, entry, Limits(most_pilots=3), Tuning()) == min(allowed, 3)


def test_a_rate_is_dealt_out_evenly() -> None:
    limits = [Limits()] * 3
    assert limit_rate([50, 5, 50], [0, 0, 0], limits, 45) == [20, 5, 20]
    assert limit_rate([50, 5, 50], [50, 5, 40], limits, 45) == [50, 5, 50]
    assert limit_rate([1, 1, 1], [0, 0, 0], limits, 2) == [1, 1, 0]


def test_an_entrys_own_rate_counts_too() -> None:
    assert limit_rate([50, 3], [10, 9], [Limits(new_per_cycle=5)] * 2, 100) == [15, 3]


def test_old_jobs_keep_a_request_from_falling_and_do_not_make_it_rise() -> None:
    assert kept(30, 30, before=12) == 12
    assert kept(30, 30, before=40) == 15
    assert kept(30, 30, before=4) == 10


@pytest.mark.parametrize(("before", "asked", "result"), [(0, 1, 1), (5, 6, 5), (5, 7, 7), (100, 110, 100), (5, 2, 2)])
def test_a_small_rise_is_not_asked_for(before: int, asked: int, result: int) -> None:
    assert steadied(asked, before) == result


@pytest.mark.parametrize(
    ("asked", "before", "stalled", "result"),
    [
        ([6, 14], [8, 8], False, [6, 10]),  # the one takes what the other gives up
        ([9, 9], [8, 8], False, [8, 8]),
        ([5, 3], [0, 0], False, [5, 3]),  # nothing was asked for before
        ([1, 1], [0, 1], False, [0, 1]),
        ([1, 1], [0, 1], True, [1, 0]),  # somebody else is tried
        ([9, 9], [0, 1], True, [9, 9]),  # far too little was asked for
    ],
)
def test_requests_do_not_rise_in_sum_while_no_more_jobs_wait(
    asked: list[int], before: list[int], stalled: bool, result: list[int]
) -> None:
    assert no_rise(asked, before, stalled=stalled) == result


counts = st.integers(0, 300)
states = st.builds(EntryState, counts, counts, st.just(0.0), counts, counts, counts, counts)


@given(counts, st.floats(0, 300), states, st.integers(0, 50), st.integers(0, 300))
def test_no_limit_is_ever_exceeded(missing: int, old: float, entry: EntryState, most: int, idle: int) -> None:
    limits = Limits(most_pilots=most, idle_slots=Ceiling(idle, 5))
    asked = kept(missing, old, entry, limits)
    assert 0 <= asked <= max(missing, 0)
    assert asked <= limits.most_queued or asked <= entry.queued
    if entry.idle_slots >= idle or entry.pilots - entry.queued >= most:
        assert asked == 0


@given(st.lists(st.tuples(counts, counts), max_size=8), counts)
def test_no_cycle_asks_for_more_new_pilots_than_its_rate(pairs: list[tuple[int, int]], most: int) -> None:
    asked, queued = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    given_out = limit_rate(asked, queued, [replace(Limits(), new_per_cycle=40)] * len(pairs), most)
    new = [max(ask - have, 0) for ask, have in zip(given_out, queued, strict=True)]
    assert sum(new) <= most
    assert all(number <= 40 for number in new)
    assert all(ask <= before for ask, before in zip(given_out, asked, strict=True))
    wanted = sum(min(max(ask - have, 0), 40) for ask, have in pairs)
    assert sum(new) == min(wanted, most)
