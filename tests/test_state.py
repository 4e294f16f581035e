"""The state of a pilot: how findings enter it, how limits are resolved, and the way to disk and back."""

from __future__ import annotations

import json
import stat
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.codec import from_json, to_json
from pilot_agent.collect import PluginReport
from pilot_agent.config import Layer, load_config
from pilot_agent.hookspecs import ContainerRequest
from pilot_agent.lifecycle.deadline import Rules, Said, decide
from pilot_agent.model import (
    BenchmarkScore,
    CheckResult,
    CheckStatus,
    ContainerDecision,
    Fact,
    Failure,
    FailureKind,
    Finding,
    ImageCandidate,
    ImageVerdict,
    Json,
    Limit,
    PilotError,
    Runtime,
    ServiceState,
    TimelineEntry,
    Verdict,
)
from pilot_agent.services.taken import ServiceShare
from pilot_agent.startd.choice import CondorChoice, CondorVerdict
from pilot_agent.state import State, load_state, save_state

EMPTY = State("abc123", 1_700_000_000.25, "wn1.example.org", "pilot", load_config([]), {"PATH": "/usr/bin"})


LADDER: Json = {"decision": "PREFERRED", "cell": "", "reason": "", "repositories": ["a.example.org"], "rungs": []}


def full() -> State:
    """A state with something in every field."""
    verdict = ImageVerdict("el9", "/images/el9", True, True, "ran /bin/true", 0.2, {"os": "el9"})
    runtime = Runtime("/usr/bin/apptainer", "1.4.5", "userns", True, True)
    return replace(
        EMPTY,
        config=load_config([Layer("vo", {"vo": {"name": "example"}}, "vo.yaml")]),
        workspace="/scratch/pilot-abc123",
        output="/home/pilot",
        finished_stages=("probe", "mount"),
        facts={"cpu.usable": Fact("cpu.usable", 4, "cores"), "x": Fact.unknown("x", "nobody looked")},
        inside="mnt:[4026532000]",
        outside={"fuse.helper_mount": Fact("fuse.helper_mount", True)},
        limits=(Limit("cpu.usable", 4, "cores", "affinity"),),
        checks=(CheckResult("userns", CheckStatus.FAIL, "no", "yes", "image", FailureKind.CONFIG, "userns.disabled"),),
        timeline=(TimelineEntry("probe", "builtin.probes", "cpu", 0.01, 0.02, "ok"),),
        failures=(Failure(FailureKind.NETWORK, "proxy.unreachable", "no proxy", retry=True, signal=15),),
        container=ContainerDecision("REQUIRED", "PREFERRED x REQUIRED", "the site", runtime, "el9", (verdict,)),
        contributed=(ContainerRequest(name="the setup x of y", binds=("/data:/data:ro",), environment={"A": "1"}),),
        cvmfs=LADDER,
        images=(ImageCandidate("el9", "/images/el9", "x86_64", {"cpu_level": "x86_64-v2"}, "vo"),),
        setup_attributes={"HasX": True},
        setup_expressions={"FitsX": "Memory > 1"},
        shares=(ServiceShare("cache", 2, 100, ("GPU-1",), exclusive=True, refused="no", code="services.too_large"),),
        services=(ServiceState("cache", "ready", 123, 0.5, "", {"HasCache": True}),),
        service_plans=[{"name": "cache"}],
        benchmarks=(BenchmarkScore("hash", 1.5, "MB/s", 0.1, True, {"HashRate": 1.5}),),
        attributes={"Nested": {"list": [1, None]}},
        declared=[{"plugin": "p"}],
        startd={
            "slots": [{"cores": 4}],
            "policies": [{"key": "startd.start", "layer": "vo", "expression": "true"}],
            "collectors": ["pool.example.org"],
            "ccb_brokers": [],
            "transfer_plugins": [{"path": "/libexec/curl_plugin", "schemes": ["https"], "problem": ""}],
            "fragments": [{"plugin": "p", "name": "f", "lines": ["A = 1"]}],
            "job_cgroups": {"used": False, "reason": "no controller is delegated"},
        },
        condor=CondorChoice(
            source="path",
            place="/usr",
            version="23.9.6",
            release="/usr",
            sha256="0" * 64,
            seconds=0.5,
            why=(CondorVerdict("directory", "/opt/condor", "", False, "it is not there"),),
        ),
        plugins=(PluginReport("p", "/x/p.py", ("pilot_probes",), 1, 0.02),),
        verdicts=(Verdict("example", False, Failure(FailureKind.NETWORK, "proxy.unreachable", "no proxy")),),
        leftovers=({"kind": "process", "pid": 7, "name": "cvmfs2", "cause": "in uninterruptible sleep"},),
        deadline=decide(
            [
                Said("batch", "SLURM_JOB_END_TIME", 1_700_090_000.0),
                Said("token", "pool.token", None, "it never expires"),
            ],
            Rules(margin=30, teardown=25.5, minimum=600),
            pilot_id="abc123",
            started=EMPTY.started,
        ),
    )


def test_every_field_comes_back_from_disk(tmp_path: Path) -> None:
    state = full()
    unset = [f.name for f in fields(State) if f.name != "version" and getattr(state, f.name) == getattr(EMPTY, f.name)]
    assert set(unset) <= {"pilot_id", "started", "host", "user", "environment"}, "give every field a value here"
    save_state(state, str(tmp_path / "state.json"))
    assert load_state(str(tmp_path / "state.json")) == state


def test_nobody_else_may_read_a_saved_state(tmp_path: Path) -> None:
    save_state(EMPTY, str(tmp_path / "state.json"))
    assert stat.S_IMODE((tmp_path / "state.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pilot_id": "x"}', b"\xff\xfe", b"null", b'"text"'])
def test_a_damaged_state_is_refused_with_its_path(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(content)
    with pytest.raises(PilotError) as caught:
        load_state(str(path))
    failure = caught.value.failure
    assert (failure.code, failure.kind) == ("state.unreadable", FailureKind.USAGE)
    assert str(path) in failure.message


def test_a_state_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PilotError, match="no pilot can be resumed"):
        load_state(str(tmp_path / "state.json"))


def test_a_state_of_another_version_that_has_more_fields_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text(json.dumps(to_json(EMPTY) | {"colour": "red"}))
    with pytest.raises(PilotError, match="colour: unknown field"):
        load_state(str(path))


def test_a_fact_that_is_known_stands_against_later_ones() -> None:
    state = EMPTY.with_findings([Fact("a", 1), Fact("a", 2), Fact.unknown("a", "late")])
    assert state.facts["a"].value == 1


def test_a_fact_that_was_not_known_is_replaced() -> None:
    state = EMPTY.with_findings([Fact.unknown("a", "first"), Fact.absent("b", "none")])
    state = state.with_findings([Fact("a", 1), Fact("b", 2)])
    assert (state.facts["a"].value, state.facts["b"].value) == (1, 2)


def test_the_smallest_limit_becomes_the_fact_and_every_limit_is_kept() -> None:
    limits = (
        Limit("cpu.usable", 8, "cores", "affinity"),
        Limit("cpu.usable", 4, "cores", "cgroup2 cpu.max /x/y"),
        Limit("memory.usable_mib", 1024, "MiB", "cgroup2 memory.max /x"),
    )
    fact = EMPTY.with_findings(limits).with_resolved_limits().facts["cpu.usable"]
    assert (fact.value, fact.unit, fact.source) == (4, "cores", "cgroup2 cpu.max /x/y")
    assert fact.limits == limits[:2]


def test_a_limit_counts_more_than_a_fact_that_says_it_is_unknown() -> None:
    findings: list[Finding] = [
        Fact.unknown("cpu.usable", "the probe failed"),
        Limit("cpu.usable", 2.5, "cores", "plugin"),
    ]
    assert EMPTY.with_findings(findings).with_resolved_limits().facts["cpu.usable"].value == 2.5


def test_whole_numbers_are_whole_in_the_fact() -> None:
    fact = EMPTY.with_findings([Limit("cpu.usable", 4.0, "cores", "a")]).with_resolved_limits().facts["cpu.usable"]
    assert isinstance(fact.value, int)


numbers = st.floats(0, 1e12, allow_nan=False)
limits_strategy = st.lists(
    st.builds(Limit, resource=st.sampled_from(["a.x", "b.y"]), number=numbers, unit=st.just("u"), source=st.text("st"))
)


@given(limits_strategy)
def test_no_resolved_value_exceeds_any_of_its_limits(limits: list[Limit]) -> None:
    state = EMPTY.with_findings(limits).with_resolved_limits()
    for limit in limits:
        assert state.facts[limit.resource].value <= limit.number
    assert from_json(State, json.loads(json.dumps(to_json(state)))) == state


@given(limits_strategy)
def test_resolving_twice_changes_nothing(limits: list[Limit]) -> None:
    once = EMPTY.with_findings(limits).with_resolved_limits()
    assert once.with_resolved_limits() == once


def test_a_later_limit_takes_the_place_of_one_from_the_same_source() -> None:
    before = EMPTY.with_findings([Limit("disk", 90.0, "MiB", "statvfs")]).with_resolved_limits()
    assert before.with_further_limits(()) is before
    once = before.with_further_limits([Limit("disk", 50.0, "MiB", "the cache")])
    assert (once.facts["disk"].value, once.facts["disk"].source) == (50, "the cache")
    again = once.with_further_limits([Limit("disk", 60.0, "MiB", "the cache")])
    assert [(limit.number, limit.source) for limit in again.facts["disk"].limits] == [
        (90.0, "statvfs"),
        (60.0, "the cache"),
    ]
    assert again.facts["disk"].value == 60
