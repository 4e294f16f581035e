"""The moments of a pilot's end come, whatever is done to a clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from pilot_agent.lifecycle.loop import Loop
from pilot_agent.lifecycle.plan import TimePlan
from pilot_agent.lifecycle.timewatch import TimeWatch

START = 1_795_000_000.0


class Clocks:
    """Three clocks and a loop that only this test moves on."""

    def __init__(self, plan: TimePlan) -> None:
        self.wall, self.boot, self.awake = START, 5000.0, 4000.0
        self.said: list[str] = []
        self.notes: list[tuple[str, float]] = []
        self.jobs = 0
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self.watch = TimeWatch(
            plan,
            cast("Loop", self),
            retire=lambda: self.said.append("retire"),
            busy=lambda: self.jobs > 0,
            idle=lambda: self.said.append("idle"),
            end=lambda: self.said.append("end"),
            note=lambda name, **values: self.notes.append((name, values["seconds"])),
            read=lambda: (self.wall, self.boot, self.awake),
        )

    def call_later(self, seconds: float, action: Callable[[], Any]) -> None:
        self._timers.append((self.awake + seconds, action))

    def run(self, seconds: float) -> list[str]:
        """Let time pass; what was called by then."""
        until = self.awake + seconds
        while self._timers and min(moment for moment, _ in self._timers) <= until:
            moment, action = min(self._timers, key=lambda timer: timer[0])
            self._timers.remove((moment, action))
            self._pass(max(0.0, moment - self.awake))
            action()
        self._pass(until - self.awake)
        return self.said

    def _pass(self, seconds: float) -> None:
        self.wall, self.boot, self.awake = self.wall + seconds, self.boot + seconds, self.awake + seconds


def plan(retire: float | None = 100, deadline: float | None = 200) -> TimePlan:
    return TimePlan(
        retire=None if retire is None else START + retire, deadline=None if deadline is None else START + deadline
    )


def test_first_no_job_begins_then_the_last_are_ended() -> None:
    clocks = Clocks(plan())
    clocks.jobs = 1
    assert clocks.run(99) == []
    assert clocks.run(2) == ["retire"]
    assert clocks.run(97) == ["retire"]
    assert clocks.run(3) == ["retire", "end"]
    assert clocks.run(1000) == ["retire", "end"]
    assert clocks.notes == []


def test_a_retired_pilot_leaves_when_its_last_job_has_ended() -> None:
    clocks = Clocks(plan())
    clocks.jobs = 1
    clocks.run(140)
    clocks.jobs = 0
    assert clocks.run(11) == ["retire", "idle"]
    assert clocks.run(1000) == ["retire", "idle"]


def test_a_job_that_was_just_taken_is_not_overlooked() -> None:
    clocks = Clocks(plan())
    clocks.run(106)
    clocks.jobs = 1
    assert clocks.run(60) == ["retire"]


def test_a_job_that_was_just_taken_is_not_overlooked_after_other_ends_were_announced() -> None:
    clocks = Clocks(plan())
    for seconds in range(199, 190, -1):
        assert clocks.watch.announce(START + seconds + plan().margin_seconds + plan().budget_seconds)
        clocks.run(1)
    clocks.run(90 - clocks.wall + START)
    assert "retire" not in clocks.said
    while "retire" not in clocks.said:
        clocks.run(0.5)
    clocks.run(6)  # one look, and not nine of them
    clocks.jobs = 1
    assert clocks.run(60) == ["retire"]


def test_a_pilot_without_a_limit_goes_on() -> None:
    assert Clocks(plan(None, None)).run(10**6) == []


def test_a_clock_that_is_set_back_prolongs_nothing() -> None:
    clocks = Clocks(plan())
    clocks.jobs = 1
    clocks.run(50)
    clocks.wall -= 3600
    assert clocks.run(52) == ["retire"]
    assert clocks.run(100) == ["retire", "end"]
    assert clocks.notes == [("clock.jumped", -3600.0)]


def test_a_clock_that_is_set_forward_is_believed() -> None:
    clocks = Clocks(plan())
    clocks.jobs = 1
    clocks.run(50)
    clocks.wall += 3600
    assert clocks.run(10) == ["end"]
    assert clocks.notes == [("clock.jumped", 3600.0)]


def test_a_machine_that_slept_past_the_end_ends_at_once() -> None:
    clocks = Clocks(plan())
    clocks.run(50)
    clocks.wall += 7200
    clocks.boot += 7200
    assert clocks.run(10) == ["end"]
    assert clocks.notes == [("machine.slept", 7200.0)]


def bounded_by_token(other: float | None = None) -> TimePlan:
    """A pilot whose token expires after 255 seconds."""
    others = None if other is None else START + other
    return TimePlan(
        retire=START + 100,
        deadline=START + 200,
        leaves=START + 225,
        budget_seconds=25,
        other_deadline=others,
        token_lead_seconds=55,
    )


@pytest.mark.parametrize(
    ("other", "expires", "deadline"), [(None, 1055, 1000), (600, 1055, 600), (600, None, 600), (None, 155, 100)]
)
def test_another_token_moves_the_end_as_far_as_the_rest_allows(
    other: float | None, expires: float | None, deadline: float
) -> None:
    times = bounded_by_token(other)
    clocks = Clocks(times)
    clocks.jobs = 1
    assert clocks.watch.renew(None if expires is None else START + expires)
    assert (times.retire, times.leaves) == (START + deadline - 100, START + deadline + 25)
    assert clocks.run(deadline - 1)[1:] == []
    assert clocks.run(11) == ["retire", "end"]


def test_a_token_that_never_expires_leaves_a_pilot_without_an_end_and_another_gives_it_one() -> None:
    times = bounded_by_token()
    clocks = Clocks(times)
    assert clocks.watch.renew(None)
    assert (times.retire, times.deadline, times.leaves) == (None, None, None)
    assert clocks.run(10**4) == []
    assert clocks.watch.renew(START + 20055)
    assert (times.retire, times.deadline) == (START + 19900, START + 20000)


def test_a_token_in_time_lets_jobs_begin_again() -> None:
    clocks = Clocks(bounded_by_token())
    clocks.jobs = 1
    assert clocks.run(101) == ["retire"]
    assert clocks.watch.renew(START + 1055)
    assert not clocks.watch.retired
    assert clocks.run(798) == ["retire"]
    assert clocks.run(11) == ["retire", "retire"]


def test_another_token_takes_back_nothing_that_was_announced() -> None:
    clocks = Clocks(bounded_by_token())
    clocks.jobs = 1
    assert not clocks.watch.announce(START + 425)
    assert clocks.watch.renew(START + 5000)
    assert clocks.run(401) == ["retire", "end"]


def test_where_the_token_bounds_nothing_another_changes_nothing() -> None:
    assert not Clocks(plan()).watch.renew(START + 9000)
    assert not Clocks(bounded_by_token(200)).watch.renew(START + 9000)
    assert not Clocks(bounded_by_token()).watch.renew(START + 255.4)


def test_an_end_that_is_announced_brings_everything_forward_and_nothing_back() -> None:
    clocks = Clocks(TimePlan(retire=START + 1000, deadline=START + 1200, budget_seconds=25, margin_seconds=30))
    clocks.jobs = 1
    assert clocks.watch.announce(START + 555)
    assert not clocks.watch.announce(START + 9000)
    clocks.run(299)
    assert clocks.said == []
    assert clocks.run(2) == ["retire"]
    assert clocks.run(200) == ["retire", "end"]


def test_an_announced_end_bounds_a_pilot_that_had_none() -> None:
    times = TimePlan(budget_seconds=25, margin_seconds=30)
    clocks = Clocks(times)
    assert clocks.watch.announce(START + 1055)
    assert (times.retire, times.deadline, times.leaves) == (START + 940, START + 1000, START + 1025)
    clocks.jobs = 1
    assert clocks.run(1001) == ["retire", "end"]


def test_clocks_that_are_kept_right_by_small_steps_are_no_event() -> None:
    clocks = Clocks(plan(None, None))
    for _ in range(100):
        clocks.run(10)
        clocks.wall += 0.5
    assert clocks.notes == []


def test_moments_that_passed_already_are_served_at_once() -> None:
    assert Clocks(plan(-20, -10)).said == ["end"]
    assert Clocks(plan(-20, 100)).said == ["retire"]
