"""What a rehearsal means for a plugin: failed is what it did wrong, skipped what could not be tried."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pilot_agent.collect import Declared
from pilot_agent.hookspecs import Benchmark, Check, Periodic, Probe, Service, Setup
from pilot_agent.model import (
    CheckResult,
    CheckStatus,
    ContainerDecision,
    Fact,
    Failure,
    FailureKind,
    ImageVerdict,
    ServiceState,
    TimelineEntry,
)
from pilot_agent.sdk.findings import Line, Verdict, lines
from pilot_agent.sdk.rehearsal import Outcome


def entry(name: str, status: str = "ok", detail: str = "") -> TimelineEntry:
    """A line of the timeline."""
    return TimelineEntry("stage", "p", name, 0.0, 0.5, status, detail)


def found(record: Any, *timeline: TimelineEntry, inside: bool = False, **more: Any) -> list[Line]:
    """What is said of one declared record."""
    empty: dict[str, Any] = dict.fromkeys(("checks", "failures", "services", "plugins", "leftovers", "events"), ())
    empty |= {name: {} for name in ("facts", "attributes", "environment", "report")}
    outcome = Outcome(
        **{**empty, "container": None, "journal": (), "timeline": timeline, **more},
        declared=(Declared("p", "hook", record, builtin=False),),
    )
    return lines(outcome, ["p"], inside=inside, search_path="/usr/bin:/bin")


def test_a_probe_is_told_with_its_facts() -> None:
    probe = Probe(name="look", run="m:f", gives=("p.a", "p.b"))
    facts = {"p.a": Fact("p.a", 4), "p.b": Fact.absent("p.b", "no such thing")}
    assert found(probe, entry("look"), facts=facts) == [
        Line("probe", "look", "ok", 0.5, "p.a: 4, p.b: absent, no such thing")
    ]


def test_a_service_that_waits_for_another_one_has_not_failed_itself() -> None:
    service = Service(name="second", command=("/bin/true",), needs=("first",))
    (told,) = found(service, entry("second", "waiting"))
    assert told.verdict == "skipped"
    assert "what it waits for was not started or did not become ready" in told.detail


def test_a_check_that_fails_is_the_nodes_matter_and_one_that_crashes_the_plugins() -> None:
    verdict = CheckResult("fit", CheckStatus.FAIL, "too small")
    check = Check(name="fit", run="m:f")
    assert found(check, entry("fit"), checks=(verdict,)) == [Line("check", "fit", "unfit", 0.5, "fail: too small")]
    said = ({"plugin": "p", "name": "fit", "log": "last words"}, {"plugin": "p", "name": "other", "text": "noise"})
    told = found(check, entry("fit", "failed", "crashed"), events=said)
    assert told == [Line("check", "fit", "failed", 0.5, "crashed\nlast words")]
    assert found(check, entry("fit", "failed", "it said last words"), events=said)[0].detail == "it said last words"


@pytest.mark.parametrize(
    ("status", "verdict"),
    [("pass", "ok"), ("warn", "warned"), ("fail", "failed"), ("skip", "skipped")],
)
def test_a_check_inside_an_image_that_says_no_has_failed(status: str, verdict: Verdict) -> None:
    check = Check(name="tools", where="image", command=("x",))
    result = CheckResult("tools", CheckStatus(status), "no grep", where="image")
    told = found(check, entry("tools"), inside=True, checks=(result,))
    assert told == [Line("check", "tools", verdict, 0.5, f"{status}: no grep")]


def test_an_image_of_a_platform_that_nobody_named_is_asked_for_and_one_that_is_none_is_a_failure() -> None:
    check = Check(name="tools", where="image", platform="el9", command=("x",))
    lost = entry("tools", "failed", "no image")
    other, own = (ImageVerdict(name, "/x", False, False, "image.missing") for name in ("default", "el9"))
    decision = ContainerDecision("PREFERRED", "", "", verdicts=(other,))
    (told,) = found(check, lost, inside=True, container=decision)
    assert told.verdict == "skipped"
    assert "--set 'images.el9=" in told.detail
    (told,) = found(check, lost, inside=True, container=replace(decision, verdicts=(other, own)))
    assert (told.verdict, told.detail) == ("failed", "no image")


def test_what_needs_a_program_that_is_missing_is_skipped_by_its_name() -> None:
    service = Service(name="cache", command=("no-such-squid", "-N"))
    states = (ServiceState("cache", "failed", message="ENOENT"),)
    assert found(service, entry("cache", "failed"), services=states) == [
        Line("service", "cache", "skipped", 0.0, "no-such-squid is not on this machine")
    ]


def test_a_service_that_does_not_become_ready_has_failed() -> None:
    service = Service(name="cache", command=("/bin/sh", "-c", "exit 3"))
    states = (ServiceState("cache", "failed", message="exited 3"),)
    assert found(service, entry("cache", "failed"), services=states) == [
        Line("service", "cache", "failed", 0.5, "exited 3")
    ]


def test_what_runs_only_later_is_skipped_with_when() -> None:
    assert found(Periodic(name="beat", run="m:f", period_seconds=60))[0].detail == "it runs while jobs may run"
    assert "pilot-agent bench" in found(Benchmark(name="hash", run="m:f"))[0].detail
    why = Failure(FailureKind.PLUGIN, "plugin.crashed", "the first raised")
    assert found(Setup(name="late", run="m:f"), failures=(why,))[0].detail.endswith("one failed: the first raised")


def test_what_runs_inside_images_is_told_there_alone() -> None:
    inside = Check(name="tools", where="image", command=("x",))
    assert found(inside, entry("tools")) == []
    assert [line.name for line in found(inside, entry("tools"), inside=True)] == ["tools"]
    assert found(Probe(name="look", run="m:f"), entry("look"), inside=True) == []
