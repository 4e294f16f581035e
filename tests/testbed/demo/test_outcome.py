"""The demo notices everything that is not as it must be: each way of going wrong is tried on a run that went well."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.testbed.demo.outcome import Outcome
from tests.testbed.demo.traces import Traces


def with_job(outcome: Outcome, name: str, said: dict[str, str] | None = None, **changes: Any) -> Outcome:
    """The same run, the jobs of one plan spoilt."""
    jobs = tuple(
        replace(job, **changes, said={**job.said, **(said or {})}) if job.plan.name == name else job
        for job in outcome.jobs
    )
    return replace(outcome, jobs=jobs)


def with_first_pilot(outcome: Outcome, changes: dict[str, Any]) -> Outcome:
    first, *rest = outcome.pilots
    return replace(outcome, pilots=(replace(first, row=replace(first.row, **changes)), *rest))


def test_a_run_that_went_well_has_no_problems(outcome: Outcome) -> None:
    assert outcome.problems() == []


def test_the_busiest_pilot_is_the_one_with_most_jobs(outcome: Outcome) -> None:
    assert outcome.busiest is not None
    assert outcome.busiest.pilot_id == "aa"


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"os": "debian 13"}, "expected os 'debian 12', found 'debian 13'"),
        ({"tokens": "/home/pilot/token "}, "expected tokens '', found '/home/pilot/token '"),
        ({"container": "none"}, "expected it in a container"),
    ],
)
def test_a_job_that_saw_the_wrong_thing_is_noticed(outcome: Outcome, said: dict[str, str], problem: str) -> None:
    (found,) = with_job(outcome, "own-image", said).problems()
    assert problem in found


def test_a_job_that_did_not_end_is_noticed_with_htcondors_reason(outcome: Outcome) -> None:
    spoilt = with_job(outcome, "container-image", state="held", exit_code=None, hold_reason="no such image")
    assert spoilt.problems()[0].endswith("expected it to complete, found it held: no such image")


def test_a_wrong_exit_status_is_noticed(outcome: Outcome) -> None:
    found = with_job(outcome, "fails", exit_code=0).problems()
    assert "expected exit status 3, found 0" in found[0]
    assert "the pilots' reports: expected jobs that ended {'exit 0': 8}" in found[1]


def test_a_job_that_said_nothing_is_noticed(outcome: Outcome) -> None:
    jobs = tuple(replace(job, said={}) if job.plan.name == "fails" else job for job in outcome.jobs)
    problems = replace(outcome, jobs=jobs).problems()
    assert any("expected tokens '', found None" in problem for problem in problems)


def test_a_missing_job_or_pilot_is_noticed(outcome: Outcome) -> None:
    fewer = replace(outcome, jobs=outcome.jobs[1:], pilots=outcome.pilots[:1])
    problems = fewer.problems()
    assert "jobs: expected 8, found 7" in problems
    assert "pilots: expected 2, found 1" in problems


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"exit_code": 143}, "expected exit status 0, found 143"),
        ({"exit_code": None}, "expected exit status 0, found None"),
        ({"state": "running"}, "expected it to end, found it running"),
        ({"outcome": "preempted"}, "expected the outcome ok, found preempted"),
    ],
)
def test_a_pilot_that_did_not_end_by_idleness_is_noticed(
    outcome: Outcome, changes: dict[str, Any], problem: str
) -> None:
    assert any(problem in found for found in with_first_pilot(outcome, changes).problems())


def test_a_pilot_without_a_report_is_noticed(outcome: Outcome) -> None:
    first, *rest = outcome.pilots
    problems = replace(outcome, pilots=(replace(first, report={}), *rest)).problems()
    assert any("expected a report, found none" in problem for problem in problems)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"os": "debian 13"}, "expected the os of the job, 'debian 12', found 'debian 13'"),
        ({"namespace": "mnt:[99]"}, "expected the namespace of the job, 'mnt:[10]', found 'mnt:[99]'"),
        ({"tokens": "/home/pilot/token "}, "expected no token in reach, found '/home/pilot/token '"),
    ],
)
def test_a_visit_to_another_place_than_the_jobs_container_is_noticed(
    outcome: Outcome, said: dict[str, str], problem: str
) -> None:
    assert outcome.visit is not None
    elsewhere = replace(outcome.visit, said={**outcome.visit.said, **said})
    assert replace(outcome, visit=elsewhere).problems() == [f"condor_ssh_to_job: {problem}"]


def test_a_node_on_which_a_running_pilot_was_not_seen_proves_nothing(outcome: Outcome) -> None:
    empty: frozenset[str] = frozenset()
    (problem,) = replace(outcome, during={"wn1": Traces(empty, empty, empty)}).problems()
    assert problem.startswith("wn1: expected processes and files of a running pilot")


def test_a_pilot_that_left_before_its_time_is_noticed(outcome: Outcome) -> None:
    late = tuple(replace(job, ended=job.ended + 25.0) for job in outcome.jobs)
    (problem,) = replace(outcome, jobs=late).problems()
    assert "expected it to leave after 20 s without a job, found" in problem


def test_a_refused_or_missing_visit_is_noticed(outcome: Outcome) -> None:
    assert outcome.visit is not None
    refused = replace(outcome.visit, exit_code=1, errors="Failed to read address of starter\n")
    assert "it said Failed to read address of starter" in replace(outcome, visit=refused).problems()[0]
    assert "there was none" in replace(outcome, visit=None).problems()[0]


@pytest.mark.parametrize("kind", ["processes", "mounts", "files"])
def test_whatever_a_pilot_leaves_is_noticed(outcome: Outcome, kind: str) -> None:
    empty: frozenset[str] = frozenset()
    left = replace(Traces(empty, empty, empty), **{kind: frozenset({"/tmp/pilot-aa"})})
    (problem,) = replace(outcome, left={"wn1": left}).problems()
    assert problem.startswith("wn1: expected nothing of a pilot left, found")
    assert "/tmp/pilot-aa" in problem


def test_trouble_on_the_way_is_told_first(outcome: Outcome) -> None:
    assert replace(outcome, trouble=("the jobs' end: it did not come",)).problems()[0].startswith("the jobs' end")


def test_only_what_is_new_counts_as_left() -> None:
    before = Traces(frozenset({"a"}), frozenset({"b"}), frozenset({"c"}))
    after = Traces(frozenset({"a", "x"}), frozenset({"b"}), frozenset())
    assert after.beyond(before) == Traces(frozenset({"x"}), frozenset(), frozenset())
    assert before.beyond(after).files == frozenset({"c"})
