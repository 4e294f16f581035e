"""A scenario's file is read with every mistake named."""

from __future__ import annotations

from typing import Any

import pytest

from pilot_agent.model import PilotError
from server_stub.frontend.pressure import Ceiling
from server_stub.frontend.simulation.scenario import Load, Site, parse_scenario, read_scenario

GOOD: dict[str, Any] = {"sites": [{"name": "a"}], "load": [{"jobs": 5, "seconds": 60}]}


def test_a_scenario_says_what_is_not_ordinary() -> None:
    found = parse_scenario(
        {**GOOD, "limits": {"reserve": 2, "idle_slots": {"most": 7, "curb": 3}}, "cycle_seconds": 30}
    )
    assert (found.sites, found.load) == ((Site("a"),), (Load(5, 60),))
    assert (found.limits.reserve, found.limits.idle_slots, found.cycle_seconds) == (2, Ceiling(7, 3), 30)


def test_all_problems_are_told_with_their_places() -> None:
    wrong = {"sites": [{"nam": "a", "cores": "x"}], "load": [], "seed": True, "limits": 3, "cycle_seconds": 0}
    with pytest.raises(PilotError) as caught:
        parse_scenario(wrong)
    message = caught.value.failure.message
    for told in (
        "sites[0].nam: unknown key; did you mean name?",
        "sites[0].name: missing",
        "sites[0].cores: expected int, found 'x'",
        "load: a list of at least one is needed",
        "seed: expected int, found True",
        "limits: expected a mapping, found 3",
        "cycle_seconds: must be more than 0",
    ):
        assert told in message


@pytest.mark.parametrize("change", [{"most_seconds": -5}, {"match": "1; 2"}, {"sites": {}}, {"load": [3]}])
def test_what_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(PilotError) as caught:
        parse_scenario({**GOOD, **change})
    assert caught.value.failure.code == "config.invalid"


def test_what_would_be_simulated_for_days_is_refused_with_its_size() -> None:
    large = {**GOOD, "load": [{"jobs": 500, "seconds": 60, "times": 1000}], "cycle_seconds": 0.1}
    with pytest.raises(PilotError) as caught:
        parse_scenario(large)
    assert "load: 500000 jobs in all, at most 200000" in caught.value.failure.message
    assert "most_seconds: 12096000 cycles of cycle_seconds, at most 100000" in caught.value.failure.message


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_refused_with_its_place(number: float) -> None:
    for change, place in (
        ({"load": [{"jobs": 5, "seconds": number}]}, r"load\[0\]\.seconds"),
        ({"sites": [{"name": "a", "black_hole_from": number}]}, r"sites\[0\]\.black_hole_from"),
    ):
        with pytest.raises(PilotError, match=place + ": expected a finite number") as caught:
            parse_scenario({**GOOD, **change})
        assert caught.value.failure.code == "config.invalid"


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(PilotError, match=r"nowhere\.yaml") as caught:
        read_scenario("/nowhere.yaml")
    assert caught.value.failure.code == "config.unreadable"


def test_jobs_say_that_they_need_as_long_as_the_longest() -> None:
    assert Load(1, 1000, spread=0.1).stated_seconds == 1101
    assert Load(1, 1000, walltime_seconds=50).stated_seconds == 50
