"""Benchmarks beside the jobs: run by the keeper's loop in real processes, told to ad, events and report."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.benchmarks.job import Job
from pilot_agent.codec import to_json
from pilot_agent.hookspecs import Benchmark
from pilot_agent.interpreter import interpreter_command
from pilot_agent.lifecycle import benchmark_tasks, final_report, node_list
from pilot_agent.lifecycle.benchmark_tasks import Benchmarks
from pilot_agent.lifecycle.plan import PeriodicPlan
from tests.lifecycle.bench import ENVIRONMENT, Bench

SCHEDULE = """
import json, os
policy = os.sched_getscheduler(0)
print(json.dumps({"score": os.nice(0), "unit": "nice", "conditions": {"policy": policy}}))
"""


def plan(directory: Path, name: str, *command: str, period_seconds: float = 0.0, **fields: Any) -> PeriodicPlan:
    """What the hand-off makes of a declared program."""
    own = directory / f"work-{name}"
    own.mkdir()
    usual: dict[str, Any] = {"when": "beside", "cache_days": 0.0, "timeout_seconds": 60.0}
    if period_seconds:
        usual |= {"when": "periodic", "period_seconds": period_seconds}
    record = Benchmark(name=name, command=command, **usual | fields)
    job = Job(
        record=record,
        builtin=False,
        directory=str(own),
        workspace=str(directory),
        cores=1,
        patience_seconds=60.0,
        argv=command,
        environment=dict(ENVIRONMENT),
        key={"name": name},
        cache_directory=str(directory / "kept"),
        idle=True,
    )
    (directory / f"{name}.json").write_text(json.dumps(to_json(job)))
    argv = [*interpreter_command(), "_child", "bench", str(directory / f"{name}.json"), str(directory / "state.json")]
    return PeriodicPlan(
        name=name,
        argv=[*argv, str(directory / f"{final_report.SCORE_PREFIX}{name}.json")],
        environment=ENVIRONMENT,
        period_seconds=period_seconds,
        timeout_seconds=120,
    )


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They begin at once, on a node with a list of its own."""
    (tmp_path / "place").mkdir()
    monkeypatch.setattr(node_list, "PLACE", str(tmp_path / "place"))
    monkeypatch.setattr(benchmark_tasks, "START_SECONDS", 0.0)


def start(bench: Bench, *plans: PeriodicPlan) -> None:
    Benchmarks(plans, bench.loop, bench.ad, bench.events)  # type: ignore[arg-type]


def ended(bench: Bench) -> list[dict[str, Any]]:
    return [event for event in bench.all_events() if event["event"] == "benchmark.ended"]


def scores(directory: Path) -> list[dict[str, Any]]:
    report: dict[str, Any] = {}
    final_report.add_scores(report, str(directory))
    found: list[dict[str, Any]] = report["benchmarks"]
    return found


def test_it_runs_with_the_lowest_priority_and_is_told_everywhere(bench: Bench, tmp_path: Path) -> None:
    interpreter = interpreter_command()[0]
    start(bench, plan(tmp_path, "idle", interpreter, "-c", SCHEDULE))
    bench.until("it ended", lambda: ended(bench))
    assert bench.ad.now == {"BENCHMARK_IDLE": 19, "BENCHMARK_IDLE_UNIT": "nice"}
    (score,) = scores(tmp_path)
    assert (score["name"], score["score"], score["status"]) == ("idle", 19, "ok")
    assert score["conditions"]["policy"] in (os.SCHED_IDLE, os.SCHED_OTHER)
    assert (ended(bench)[0]["name"], ended(bench)[0]["status"]) == ("idle", "ok")


def test_one_runs_after_the_other_and_a_failure_keeps_none_from_running(bench: Bench, tmp_path: Path) -> None:
    word = (
        """test ! -e ../running && touch ../running && sleep 0.2 && rm ../running && echo '{"score": 1, "unit": "x"}'"""
    )
    command = ("/bin/sh", "-c", word)
    start(bench, plan(tmp_path, "a", *command), plan(tmp_path, "b", "/bin/false"), plan(tmp_path, "c", *command))
    bench.until("all ended", lambda: len(ended(bench)) == 3)
    assert [(event["name"], event["status"]) for event in ended(bench)] == [("a", "ok"), ("b", "failed"), ("c", "ok")]
    assert [score["status"] for score in scores(tmp_path)] == ["ok", "failed", "ok"]


@pytest.mark.parametrize("days", [0.0, 30.0])
def test_one_with_a_period_runs_again_and_the_last_score_counts(bench: Bench, tmp_path: Path, days: float) -> None:
    """Also where scores are kept: one that was kept in the period before is not taken for a new one."""
    word = """echo x >> ../runs; echo "{\\"score\\": $(wc -l < ../runs), \\"unit\\": \\"runs\\"}" """
    start(bench, plan(tmp_path, "again", "/bin/sh", "-c", word, period_seconds=0.1, cache_days=days))
    bench.until("it ran three times", lambda: len(ended(bench)) >= 3)
    bench.loop._timers.clear()  # the end of the test waits for what runs, and that would never be over
    assert bench.ad.now["BENCHMARK_AGAIN"] >= 3
    assert scores(tmp_path)[0]["score"] >= 3


def test_one_whose_process_tells_nothing_is_told(bench: Bench) -> None:
    start(bench, PeriodicPlan(name="x", argv=["/bin/false"], environment={}, period_seconds=0.0, timeout_seconds=60))
    bench.until("it ended", lambda: ended(bench))
    assert (ended(bench)[0]["status"], ended(bench)[0]["message"]) == (
        "failed",
        "its process ended with 1 and told nothing",
    )
    assert bench.ad.now == {}


def test_what_is_no_score_is_left_out_of_the_report(tmp_path: Path) -> None:
    (tmp_path / f"{final_report.SCORE_PREFIX}1.json").write_text("{")
    (tmp_path / f"{final_report.SCORE_PREFIX}2.json").write_text("[1]")
    assert scores(tmp_path) == []
    report = {"benchmarks": [{"name": "hash"}]}
    final_report.add_scores(report, str(tmp_path / "nowhere"))
    assert report == {"benchmarks": [{"name": "hash"}]}
