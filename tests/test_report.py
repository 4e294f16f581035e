"""The report fits its schema in every state of a pilot, and the schema refuses what is no report."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.collect import PluginReport
from pilot_agent.lifecycle import final_report
from pilot_agent.model import (
    BenchmarkScore,
    BindVerdict,
    CheckResult,
    ContainerDecision,
    Fact,
    Failure,
    FailureKind,
    ImageVerdict,
    JobSurroundings,
    Json,
    Limit,
    OptionVerdict,
    Runtime,
    ServiceState,
    TimelineEntry,
    VariableVerdict,
)
from pilot_agent.report import SCHEMA, build_report, nest_facts, report_schema, timestamp
from pilot_agent.state import State
from tests.test_state import EMPTY, full

VALIDATOR = jsonschema.Draft202012Validator(report_schema())


def assert_valid(report: Json) -> None:
    """The report, as it is after the way through text, fits the schema."""
    again = json.loads(json.dumps(report, allow_nan=False))
    faults = [f"{fault.json_path}: {fault.message}" for fault in VALIDATOR.iter_errors(again)]
    assert not faults


def test_the_schema_is_one_and_names_the_version_of_the_report() -> None:
    jsonschema.Draft202012Validator.check_schema(report_schema())
    assert report_schema()["properties"]["schema"]["const"] == SCHEMA


@pytest.mark.parametrize("state", [EMPTY, full()], ids=["empty", "full"])
@pytest.mark.parametrize("finished", [False, True])
def test_the_report_of_a_pilot_fits_the_schema(state: State, finished: bool) -> None:
    assert_valid(build_report(state, finished=finished))


names = st.text(min_size=1, max_size=6)
seconds = st.floats(0, 1e6, allow_nan=False)
verdicts = st.builds(
    ImageVerdict, platform=names, path=names, taken=st.booleans(), proven=st.booleans(), reason=names, seconds=seconds
)
runtimes = st.builds(Runtime, path=names, version=names, mode=st.sampled_from(["userns", "setuid"]))
failures = st.builds(
    Failure,
    kind=st.sampled_from(FailureKind),
    code=st.sampled_from(["userns.disabled", "usage", "signal.15", "check.My check"]),
    message=names,
    signal=st.none() | st.integers(1, 64),
)
facts = st.builds(
    Fact, name=names.map("x.{}".format), value=st.integers(), limits=st.just((Limit("x.y", 1, "u", "s"),)) | st.just(())
) | st.builds(Fact.unknown, names, names)
states = st.builds(
    replace,
    st.just(EMPTY),
    facts=st.lists(facts, max_size=4).map(lambda found: {fact.name: fact for fact in found}),
    failures=st.lists(failures, max_size=3).map(tuple),
    checks=st.lists(st.builds(CheckResult, name=names), max_size=3).map(tuple),
    timeline=st.lists(
        st.builds(TimelineEntry, stage=names, plugin=names, what=names, start=seconds, seconds=seconds, status=names),
        max_size=3,
    ).map(tuple),
    container=st.none()
    | st.builds(
        ContainerDecision,
        decision=st.sampled_from(["DISABLE", "NEVER", "PREFERRED", "REQUIRED", "FAIL"]),
        runtime=st.none() | runtimes,
        verdicts=st.lists(verdicts, max_size=3).map(tuple),
        surroundings=st.builds(
            JobSurroundings,
            binds=st.lists(st.builds(BindVerdict, asked_by=names), max_size=2).map(tuple),
            options=st.lists(st.builds(OptionVerdict, asked_by=names), max_size=2).map(tuple),
            environment=st.lists(st.builds(VariableVerdict, asked_by=names), max_size=2).map(tuple),
        ),
    ),
    services=st.lists(
        st.builds(ServiceState, name=names, pid=st.none() | st.integers(1), ready_after_seconds=st.none() | seconds),
        max_size=2,
    ).map(tuple),
    benchmarks=st.lists(
        st.builds(
            BenchmarkScore,
            name=names,
            score=st.none() | seconds,
            unit=names,
            seconds=seconds,
            repetitions=st.lists(seconds, max_size=3).map(tuple),
            spread=st.none() | seconds,
            image=st.none() | names,
            status=st.sampled_from(["ok", "failed", "timeout", "skipped"]),
            measured=st.none() | seconds,
        ),
        max_size=2,
    ).map(tuple),
    plugins=st.lists(
        st.builds(
            PluginReport, name=names, source=names, hooks=st.just(("pilot_probes",)), declared=st.integers(0, 99)
        ),
        max_size=2,
    ).map(tuple),
)


@given(states, st.booleans())
def test_the_report_of_any_pilot_fits_the_schema(state: State, finished: bool) -> None:
    report = build_report(state, finished=finished)
    assert_valid(report)
    assert (report["outcome"]["failure"] is None) == (not state.failures)


def test_the_report_names_variables_and_holds_none_of_their_values() -> None:
    variable = VariableVerdict("TOKEN", "very-secret", "configuration (vo)", given=True)
    decision = ContainerDecision("NEVER", "a x b", "", surroundings=JobSurroundings(environment=(variable,)))
    report = build_report(replace(EMPTY, container=decision))
    assert_valid(report)
    assert report["container"]["environment"] == [
        {"name": "TOKEN", "asked_by": "configuration (vo)", "given": True, "reason": ""}
    ]
    assert "very-secret" not in json.dumps(report)


def test_the_reports_of_the_resident_processes_fit_the_schema() -> None:
    report = final_report.empty_report("abc", 1_700_000_000.0)
    assert_valid(report)
    final_report.set_outcome(report, final_report.preempted(15))
    final_report.set_end(report, [{"kind": "process", "pid": 12, "cause": "asleep"}], 0.5, 1_700_000_000.0)
    assert_valid(report)


def test_both_writers_of_reports_use_the_same_fields() -> None:
    ours, theirs = build_report(EMPTY), final_report.empty_report()
    assert list(ours) == list(theirs)
    assert list(ours["pilot"]) == list(theirs["pilot"])
    assert list(ours["jobs"]) == list(theirs["jobs"])


def test_both_writers_of_reports_write_failures_and_times_alike() -> None:
    failure = Failure(FailureKind.PREEMPTED, "signal.15", "signal 15 told the pilot to end", retry=True, signal=15)
    report = build_report(replace(EMPTY, failures=(failure,)))
    assert report["outcome"] == final_report.outcome(final_report.preempted(15))
    assert timestamp(1_700_000_000.25) == final_report.timestamp(1_700_000_000.25) == "2023-11-14T22:13:20.250Z"


def break_by(change: Callable[[Any], object]) -> Json:
    """A valid report after this change."""
    report = copy.deepcopy(json.loads(json.dumps(build_report(full(), finished=True))))
    change(report)
    return report


@pytest.mark.parametrize(
    "change",
    [
        lambda report: report.pop("timeline"),
        lambda report: report.update(colour="red"),
        lambda report: report.update(schema="pilot-agent/report/0"),
        lambda report: report["outcome"].update(status="fine"),
        lambda report: report["outcome"].update(status="ok"),
        lambda report: report["outcome"].update(failure=None),
        lambda report: report["outcome"]["failure"].update(kind="bad luck"),
        lambda report: report["outcome"]["failure"].update(message=""),
        lambda report: report["pilot"].update(started=1_700_000_000),
        lambda report: report["node"]["cpu"]["usable"].pop("source"),
        lambda report: report["node"]["cpu"]["usable"].update(status="perhaps"),
        lambda report: report["node"]["x"]["value"].update(value=3),
        lambda report: report["node"]["x"]["value"].update(detail=""),
        lambda report: report["node"].update(cpu=4),
        lambda report: report["checks"][0].update(status="ok"),
        lambda report: report["container"].update(decision="MAYBE"),
        lambda report: report["container"]["why"][0].pop("reason"),
        lambda report: report["jobs"].update(started=-1),
        lambda report: report["timeline"][0].update(seconds="long"),
        lambda report: report["leftovers"].append({"kind": "path"}),
    ],
)
def test_what_is_no_report_is_refused(change: Callable[[Any], object]) -> None:
    assert not VALIDATOR.is_valid(break_by(change))


def test_an_unchanged_report_is_the_one_that_these_changes_break() -> None:
    assert_valid(break_by(lambda report: None))


def test_facts_are_nested_by_their_first_word() -> None:
    found = nest_facts({"gpu.count": Fact("gpu.count", 1), "gpu.a.b": Fact("gpu.a.b", 2), "alone": Fact("alone", 3)})
    assert {group: list(inner) for group, inner in found.items()} == {"alone": ["value"], "gpu": ["a.b", "count"]}


def test_limits_show_their_source_and_number() -> None:
    fact = Fact("cpu.usable", 4, "cores", limits=(Limit("cpu.usable", 4, "cores", "affinity"),))
    assert nest_facts({"cpu.usable": fact})["cpu"]["usable"]["limits"] == [{"source": "affinity", "number": 4}]


def test_of_several_failures_the_worst_decides() -> None:
    plugin = Failure(FailureKind.PLUGIN, "plugin.crashed", "a plugin")
    config = Failure(FailureKind.CONFIG, "config.invalid", "a key")
    report = build_report(replace(EMPTY, failures=(plugin, config)))
    assert report["outcome"]["failure"]["code"] == "config.invalid"
    assert [failure["code"] for failure in report["failures"]] == ["plugin.crashed", "config.invalid"]


def test_a_preempted_pilot_says_so() -> None:
    failure = Failure(FailureKind.PREEMPTED, "signal.15", "signal 15", signal=15)
    assert build_report(replace(EMPTY, failures=(failure,)))["outcome"]["status"] == "preempted"
