"""A figure says what was measured, and misses its goal only when the whole interval does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.estimate import Estimate
from benchmarks.figures import Figure, Goal, Samples, table, write

TEN = tuple(float(value) for value in range(1, 11))


def _figure(goal: Goal | None = None) -> Figure:
    return Figure("start", "s", Samples("ours", TEN), Samples("theirs", (2.0,) * 10), goal, beside={"nothing": 0.01})


@pytest.mark.parametrize(
    ("limit", "met"), [(3.0, True), (2.5, True), (2.0, True), (1.9, False)], ids=["all", "median", "border", "none"]
)
def test_a_goal_is_missed_only_by_the_whole_interval(limit: float, met: bool) -> None:
    assert Goal(limit).met(Estimate(2.5, 2.0, 3.0)) is met


def test_a_goal_of_the_ratio_looks_at_the_ratio() -> None:
    assert _figure(Goal(2.0, "ratio")).met() is True
    assert _figure(Goal(0.9, "ratio")).met() is False


def test_a_goal_of_the_value_looks_at_the_value() -> None:
    assert _figure(Goal(1.5)).met() is False


def test_without_a_goal_nothing_is_missed() -> None:
    assert _figure().met() is None


def test_a_ratio_without_a_peer_is_an_error_of_ours() -> None:
    with pytest.raises(ValueError, match="no peer"):
        Figure("start", "s", Samples("ours", TEN), goal=Goal(1, "ratio")).met()


def test_a_size_is_its_own_interval() -> None:
    assert Figure("size", "bytes", Samples("file", (42.0,))).value() == Estimate(42.0, 42.0, 42.0)


def test_the_file_holds_the_agreed_fields(tmp_path: Path) -> None:
    path = write(_figure(Goal(3.0)), tmp_path / "bench", "abc1234", {"cores": 2})
    document = json.loads(path.read_text(encoding="utf-8"))
    assert path.name == "start.json"
    assert {"name", "unit", "median", "interval", "rounds", "peer", "ratio", "commit"} <= document.keys()
    assert (document["median"], document["interval"], document["rounds"]) == (5.5, [2.0, 9.0], 10)
    assert document["peer"] == {"name": "theirs", "median": 2.0, "interval": [2.0, 2.0]}
    assert document["ratio"] == {"median": 2.75, "interval": [1.0, 4.5]}
    assert (document["commit"], document["goal"]["met"]) == ("abc1234", True)


def test_the_table_names_goal_verdict_and_what_was_beside() -> None:
    text = table([_figure(Goal(3.0, "ratio")), Figure("stop", "s", Samples("ours", TEN), goal=Goal(1.5))])
    start, stop, beside = text.splitlines()[1:]
    assert start.split()[0] == "start"
    assert start.split()[-3:] == ["<=", "3x", "met"]
    assert stop.endswith("MISSED")
    assert beside == "beside: nothing: 0.01 s"
