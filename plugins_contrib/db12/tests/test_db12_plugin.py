"""What the plugin declares follows from its options; its scores say which Python they belong to."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from pilot_db12 import measure as module
from pilot_db12.plugin import draws, multiple, pilot_benchmarks, pilot_options, single

from pilot_agent.hookspecs import Benchmark, Context
from pilot_agent.model import Fact

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def config(**options: Any) -> dict[str, Any]:
    """A configuration with the plugin's options, the others as they are by default."""
    defaults = {option.name: option.default for option in pilot_options()}
    return {"plugins": {"options": {"db12": defaults | options}}}


def declared(**options: Any) -> list[Benchmark]:
    """What the plugin declares."""
    return list(pilot_benchmarks(config(**options)))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Iterations of a moment; nothing is published of them."""
    monkeypatch.setattr(module.measure, "__defaults__", (2000,))
    monkeypatch.setattr(module.measure_copies, "__defaults__", (2000,))


def test_one_core_is_measured_unless_more_is_asked_for() -> None:
    (record,) = declared()
    assert (record.name, record.cores, record.when, record.timeout_seconds) == ("db12", "one", "before", 120.0)
    assert PYTHON in record.version


def test_all_cores_are_measured_where_that_is_asked_for() -> None:
    one, all_of_them = declared(run=["db12", "db12_multiple"], iterations=2, when="beside")
    assert (one.timeout_seconds, one.when) == (180.0, "beside")
    assert (all_of_them.name, all_of_them.cores) == ("db12_multiple", "all")


def test_a_score_of_other_options_is_another_score() -> None:
    versions = {declared(**options)[0].version for options in ({}, {"iterations": 2}, {"factor": 0.86})}
    assert len(versions) == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"run": ["db21"]}, r"db12\.run names 'db21'; known: db12, db12_multiple, normal_draws"),
        ({"iterations": 0}, r"db12\.iterations is 0"),
        ({"factor": -1}, r"db12\.factor is -1"),
        ({"when": "never"}, r"db12\.when is 'never', and none of before, beside, periodic"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        declared(**options)


@pytest.mark.usefixtures("short")
def test_a_score_names_its_python_and_is_not_corrected() -> None:
    found = single(Context(config=config(iterations=2)))
    assert (found.name, found.unit, found.attributes) == ("db12", "DB12", {"DB12_PYTHON": PYTHON})
    assert len(found.repetitions) == 2
    assert found.conditions["factor"] == 1.0


@pytest.mark.usefixtures("short")
def test_a_correction_that_is_asked_for_is_applied_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "measure", lambda iterations: module.Timing(10.0, 10.0, (25.0,)))
    found = single(Context(config=config(factor=0.5)))
    assert (found.score, found.repetitions, found.conditions["factor"]) == (12.5, (12.5,), 0.5)


@pytest.mark.usefixtures("short")
def test_as_many_copies_run_as_the_pilot_may_use_cores() -> None:
    found = multiple(Context(facts={"cpu.usable": Fact("cpu.usable", 1)}, config=config()))
    assert found.attributes["BENCHMARK_DB12_MULTIPLE_COPIES"] == 1
    assert found.score == found.attributes["BENCHMARK_DB12_MULTIPLE_MEAN"]
    assert found.attributes["DB12_PYTHON"] == PYTHON


def test_the_short_one_is_no_db12() -> None:
    found = draws(Context(config=config()))
    assert (found.name, found.unit) == ("normal_draws", "million draws/CPU s")
    assert found.score is not None
    assert found.score > 0
    assert len(found.repetitions) == 3
