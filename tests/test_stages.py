"""What a plugin declares has its effect in its stage, and a bad plugin has none beyond its own line."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilot_agent import host, stages
from pilot_agent.config import Layer, load_config
from pilot_agent.configure import new_state
from pilot_agent.environment import clean_environment
from pilot_agent.events import EventLog
from pilot_agent.interpreter import interpreter_command
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.journal import Journal
from pilot_agent.lifecycle.teardown import run_commands
from pilot_agent.model import (
    CheckStatus,
    ContainerDecision,
    Fact,
    FactStatus,
    FailureKind,
    ImageVerdict,
    Json,
    PilotError,
    Runtime,
    ServiceState,
)
from pilot_agent.stages import Session
from pilot_agent.state import State
from pilot_agent.workspace import Workspace
from tests.conftest import MakePlugin

Prepare = Callable[..., tuple[Session, State]]


@pytest.fixture
def prepare(
    make_plugin: MakePlugin, plugin_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Prepare:
    """A session and a fresh state for a plugin with this source: (source, configuration)."""
    monkeypatch.setattr(host, "BUILTIN_PLUGINS", ())

    def write(source: str, document: dict[str, Json] | None = None) -> tuple[Session, State]:
        make_plugin("example", source)
        config = load_config([Layer("vo", document or {})])
        workspace = Workspace(str(tmp_path / "pilot-1"))
        os.mkdir(workspace.root)
        workspace.create()
        environment = clean_environment({}, home=workspace.temporary, temporary=workspace.temporary)
        around = host.Surroundings(tuple(interpreter_command()), environment, (str(plugin_directory),))
        loaded = host.load_plugins(["example"], config.values, around, 60)
        state = new_state(config, {"SITE": "x"}, output=str(tmp_path))
        return Session(around, loaded, EventLog(workspace.events, state.started), workspace), state

    return write


def events(session: Session) -> list[dict[str, Any]]:
    """What was recorded."""
    return [json.loads(line) for line in Path(session.workspace.events).read_text().splitlines()]


def test_pilot_options_are_checked_against_what_is_configured(prepare: Prepare) -> None:
    session, state = prepare(
        "@hookimpl\ndef pilot_options():\n    yield Option(name='depth', type='integer', default=1)\n"
    )
    found = host.complete_options(session.loaded, {"example": {"depth": 3}}, state.config)
    assert found == {"example": {"depth": 3}}
    with pytest.raises(Exception, match=r"plugins\.options\.example\.depth .*expected integer"):
        host.complete_options(session.loaded, {"example": {"depth": "deep"}}, state.config)


def test_pilot_probes_give_facts_and_limits_and_see_those_they_require(prepare: Prepare) -> None:
    session, state = prepare("""
def first(context):
    yield Fact("example.site", context.environment["SITE"])
    yield Limit("cpu.usable", 8, "cores", "first")

def second(context):
    yield Fact("example.seen", context.value("example.site"))
    yield Limit("cpu.usable", 2, "cores", "second")

@hookimpl
def pilot_probes(config):
    yield Probe(name="second", run=f"{__name__}:second", requires=("example.site",), gives=("example.seen",))
    yield Probe(name="first", run=f"{__name__}:first", gives=("example.site",))
""")
    state = stages.probe(session, state)
    assert state.facts["example.seen"].value == "x"
    assert (state.facts["cpu.usable"].value, state.facts["cpu.usable"].source) == (2, "second")
    assert [entry.what for entry in state.timeline] == ["first", "second"]
    assert not state.failures


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("raise ValueError('broken')", "failed"),
        ("os._exit(0)", "failed"),
        ("time.sleep(600)", "timeout"),
        ("return Fact('example.lost', 1)", "failed"),
        ("return 3", "failed"),
        ("yield CheckResult('a', CheckStatus.PASS)", "failed"),
    ],
)
def test_a_probe_that_fails_makes_its_facts_unknown_and_the_pilot_goes_on(
    prepare: Prepare, body: str, status: str
) -> None:
    session, state = prepare(f"""
def bad(context):
    {body}

def good(context):
    yield Fact("example.good", 1)

@hookimpl
def pilot_probes(config):
    yield Probe(name="bad", run=f"{{__name__}}:bad", gives=("example.lost",), timeout_seconds=1.5)
    yield Probe(name="good", run=f"{{__name__}}:good", gives=("example.good",), timeout_seconds=60)
""")
    state = stages.probe(session, state)
    assert state.facts["example.good"].value == 1
    lost = state.facts["example.lost"]
    assert lost.status is FactStatus.UNKNOWN
    assert lost.detail
    assert {entry.what: entry.status for entry in state.timeline} == {"bad": status, "good": "ok"}
    assert not state.failures


def test_a_probe_that_does_not_give_what_it_promised_makes_it_unknown(prepare: Prepare) -> None:
    session, state = prepare("""
def quiet(context):
    return []

@hookimpl
def pilot_probes(config):
    yield Probe(name="quiet", run=f"{__name__}:quiet", gives=("example.promised",))
""")
    assert stages.probe(session, state).facts["example.promised"].detail == "the probe did not say"


def test_what_a_probe_prints_is_in_the_events(prepare: Prepare) -> None:
    session, state = prepare("""
def loud(context):
    print("a word to its author")
    return []

@hookimpl
def pilot_probes(config):
    yield Probe(name="loud", run=f"{__name__}:loud")
""")
    stages.probe(session, state)
    assert any("a word to its author" in event.get("log", "") for event in events(session))


def test_pilot_mounts_give_facts(prepare: Prepare) -> None:
    session, state = prepare("""
def look(context):
    yield Fact("example.mounted", os.path.ismount("/"))

@hookimpl
def pilot_mounts(config):
    yield Mount(name="data", run=f"{__name__}:look", gives=("example.mounted",))
""")
    assert stages.mount(session, state).facts["example.mounted"].value is True


SETUPS = """
def early(context):
    return SetupResult(environment={"A": "early"}, images=(ImageCandidate("el9", "/images/el9"),), binds=("/data",))

def late(context):
    return SetupResult(environment={"A": "late"}, attributes={"HasLate": True})

@hookimpl
def pilot_setups(config):
    yield Setup(name="late", run=f"{__name__}:late")
    yield Setup(name="early", run=f"{__name__}:early", stage="early")
"""


def test_pilot_setups_contribute_in_their_stage(prepare: Prepare) -> None:
    session, state = prepare(SETUPS)
    state = stages.setup_early(session, state)
    assert (state.job_environment, state.setup_attributes) == ({"A": "early"}, {})
    assert [(one.name, one.binds) for one in state.contributed] == [("the setup early of example", ("/data",))]
    assert [image.path for image in state.images] == ["/images/el9"]
    state = stages.setup_late(session, state)
    assert (state.job_environment, state.setup_attributes) == ({"A": "late"}, {"HasLate": True})


LATE = """
def late(context):
    return SetupResult(environment={"A": "late", "LD_PRELOAD": "/x"}, binds=("/etc:/late:ro", "/no/such"))

@hookimpl
def pilot_setups(config):
    yield Setup(name="late", run=f"{__name__}:late")

@hookimpl
def pilot_containers(config):
    yield ContainerRequest(name="data", binds=("/usr:/data:ro",))
"""


def test_what_late_setups_give_is_judged_like_all_else(prepare: Prepare) -> None:
    session, state = prepare(LATE)
    runtime = Runtime("/usr/bin/apptainer", "1.4.5", "userns", True, True)
    decision = ContainerDecision("PREFERRED", "a x b", "", runtime)
    state = stages.setup_late(session, replace(state, container=decision))
    assert state.container is not None
    binds = {one.destination: (one.asked_by, one.given) for one in state.container.surroundings.binds}
    who = "the setup late of example"
    assert binds["/late"] == (who, True)
    assert binds["/no/such"] == (who, False)
    assert binds["/data"] == ("plugin example (data)", True)
    given = {one.name: one.given for one in state.container.surroundings.environment}
    assert given == {"A": True, "LD_PRELOAD": False}


EXPRESSIONS = """
def first(context):
    return SetupResult(expressions={"A": "TARGET.x > 1", "B": "1 + 1"}, attributes={"C": 1})

def second(context):
    return SetupResult(expressions={"c": "Cpus / 2"}, attributes={"a": True})

@hookimpl
def pilot_setups(config):
    yield Setup(name="first", run=f"{__name__}:first")
    yield Setup(name="second", run=f"{__name__}:second", after=("first",))
"""


def test_an_attribute_is_a_constant_or_an_expression_as_it_was_given_last(prepare: Prepare) -> None:
    session, state = prepare(EXPRESSIONS)
    state = stages.setup_late(session, state)
    assert (state.setup_attributes, state.setup_expressions) == ({"a": True}, {"B": "1 + 1", "c": "Cpus / 2"})


@pytest.mark.parametrize(("name", "text"), [("A", "(1"), ("A", "1\\nB = 2"), ("A", ""), ("A B", "1"), ("", "1")])
def test_an_expression_that_would_break_the_configuration_fails_its_setup(
    prepare: Prepare, name: str, text: str
) -> None:
    session, state = prepare(EXPRESSIONS.replace('"A": "TARGET.x > 1"', f'"{name}": "{text}"'))
    state = stages.setup_late(session, state)
    assert [failure.code for failure in state.failures] == ["plugin.answer"]


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("body", ["raise ValueError('broken')", "return {'environment': 'wrong'}"])
def test_a_setup_that_fails_ends_the_pilot_only_if_it_is_required(prepare: Prepare, required: bool, body: str) -> None:
    session, state = prepare(f"""
def bad(context):
    {body}

@hookimpl
def pilot_setups(config):
    yield Setup(name="bad", run=f"{{__name__}}:bad", required={required})
""")
    state = stages.setup_late(session, state)
    assert [failure.kind for failure in state.failures] == ([FailureKind.PLUGIN] if required else [])
    assert state.timeline[-1].status == "failed"


VERIFYING = """
def disk(context):
    checks = (
        CheckResult("quota", CheckStatus.PASS, metrics={"free_mib": 7}),
        CheckResult(context.task, CheckStatus.FAIL, "too small", code="example.small"),
    )
    return SetupResult(environment={"A": context.task}, checks=checks)

@hookimpl
def pilot_setups(config):
    for name in ("first", "second"):
        yield Setup(name=name, run=f"{__name__}:disk", required=REQUIRED)
"""


def test_a_setup_that_verified_something_bad_ends_the_pilot_as_a_check_would(prepare: Prepare) -> None:
    session, state = prepare(VERIFYING.replace("REQUIRED", "True"))
    state = stages.setup_late(session, state)
    assert [(failure.code, failure.plugin, failure.stage) for failure in state.failures] == [
        ("example.small", "example", "setup late")
    ]
    assert state.failures[0].retry
    assert [(one.name, one.status) for one in state.checks] == [
        ("quota", CheckStatus.PASS),
        ("first", CheckStatus.FAIL),
    ]
    assert state.checks[0].metrics == {"free_mib": 7}
    assert (state.timeline[-1].status, state.timeline[-1].detail) == ("failed", "too small")


def test_what_a_setup_that_is_not_required_verified_only_warns(prepare: Prepare) -> None:
    session, state = prepare(VERIFYING.replace("REQUIRED", "False"))
    state = stages.setup_late(session, state)
    assert state.failures == ()
    assert state.job_environment == {"A": "second"}
    assert [one.status for one in state.checks if one.code] == [CheckStatus.WARN, CheckStatus.WARN]


CHECKS = """
def verdict(context):
    return CheckResult("any", CheckStatus.FAIL, "too small", hint="buy more", code="example.small")

def broken(context):
    raise ValueError("broken")

@hookimpl
def pilot_checks(config):
    yield Check(name="verdict", run=f"{__name__}:verdict", kind="network", required=REQUIRED)
    yield Check(name="broken", run=f"{__name__}:broken", required=REQUIRED)
"""


def test_pilot_checks_that_fail_end_the_pilot_with_their_kind(prepare: Prepare) -> None:
    session, state = prepare(CHECKS.replace("REQUIRED", "True"))
    state = stages.validate(session, state)
    found = {failure.code: failure for failure in state.failures}
    assert found["example.small"].kind is FailureKind.NETWORK
    assert found["example.small"].hint == "buy more"
    assert found["plugin.crashed"].kind is FailureKind.PLUGIN
    # What a site changes may be better on another node; a broken plugin is broken everywhere.
    assert (found["example.small"].retry, found["plugin.crashed"].retry) == (True, False)


def test_checks_that_are_not_required_only_warn(prepare: Prepare) -> None:
    session, state = prepare(CHECKS.replace("REQUIRED", "False"))
    state = stages.validate(session, state)
    assert not state.failures
    assert {result.status for result in state.checks} == {CheckStatus.WARN}


def test_requirements_of_the_configuration_are_judged_with_the_checks(prepare: Prepare) -> None:
    wanted: list[Json] = ["example.cores >= 4", {"require": "example.cores >= 8", "level": "preferred"}]
    session, state = prepare("", {"requirements": wanted})
    state = state.with_findings([Fact("example.cores", 2)])
    state = stages.validate(session, state)
    assert [result.status for result in state.checks] == [CheckStatus.FAIL, CheckStatus.WARN]
    assert len(state.failures) == 1


def contained(state: State) -> State:
    """The state of a pilot whose jobs get an image in which a proof found a C library."""
    runtime = Runtime("/usr/bin/apptainer", "1.4.5", "userns", True, True)
    verdict = ImageVerdict("el9", "/images/el9", True, True, "", facts={"os.glibc": "2.34"})
    return replace(state, container=ContainerDecision("REQUIRED", "a x b", "", runtime, "el9", (verdict,)))


def test_a_requirement_can_be_judged_inside_the_image_of_jobs(prepare: Prepare) -> None:
    glibc = {"require": "os.glibc >= 2.34", "where": "image"}
    wanted: list[Json] = ["os.glibc >= 2.34", glibc, {**glibc, "platform": "el8", "level": "preferred"}]
    session, state = prepare("", {"requirements": wanted})
    state = stages.validate(session, contained(state.with_findings([Fact("os.glibc", "2.17")])))
    outside, inside, other = state.checks
    assert (outside.status, outside.where) == (CheckStatus.FAIL, "host")
    assert (inside.status, inside.where) == (CheckStatus.PASS, "image")
    assert (other.status, other.where, other.code) == (CheckStatus.WARN, "image", "image.not_in_dictionary")


IMAGE_CHECKS = """
@hookimpl
def pilot_checks(config):
    yield Check(name="must", where="image", command=("/bin/true",))
    yield Check(name="may", where="image", command=("/bin/true",), required=False)
    yield Check(name="node", command=("/bin/sh", "-c", "cat $PILOT_CONTEXT | head -c 8; echo; echo $PWD"))
"""


def test_a_check_inside_an_image_that_jobs_do_not_get_fails_when_it_is_required(prepare: Prepare) -> None:
    session, state = prepare(IMAGE_CHECKS)
    state = stages.validate(session, state)
    must, may, node = state.checks
    assert (must.status, must.where, must.code) == (CheckStatus.FAIL, "image", "container.none")
    assert may.status is CheckStatus.SKIP
    assert (node.status, node.where) == (CheckStatus.PASS, "host")
    assert node.message.startswith(session.workspace.temporary)
    assert not os.path.exists(node.message)
    assert [failure.code for failure in state.failures] == ["container.none"]


UNDONE = """
def first(context):
    return SetupResult(environment={"FIRST": "1"})

@hookimpl
def pilot_setups(config):
    yield Setup(name="first", run=f"{__name__}:first", teardown=("/bin/sh", "-c", "echo first >> ../undone"))
    yield Setup(name="second", command=("/bin/sh", "-c", "exit 3"), required=False,
                teardown=("/bin/sh", "-c", "echo second >> ../undone; exit 1"))
    yield Setup(name="third", command=("/bin/echo", '{"environment": {"THIRD": "3"}}'), teardown=("/bin/sleep", "600"),
                teardown_seconds=0.3)
    yield Setup(name="inside", where="image", command=("/bin/true",), teardown=("/bin/true",), required=False)
"""


SHARING = """
def written(context):
    with open(f"{context.workspace}/tmp/common/first", "a") as file:
        file.write("function ")
    return SetupResult()

@hookimpl
def pilot_setups(config):
    yield Setup(name="a", command=("/bin/sh", "-c", "echo program >> first"), directory="common")
    yield Setup(name="b", run=f"{__name__}:written", after=("a",), directory="common",
                teardown=("/bin/sh", "-c", "echo end >> first"))
    yield Setup(name="c", command=("/bin/sh", "-c", "test ! -e first"), after=("b",))
"""


def test_setups_may_share_a_directory_that_stays_until_the_end(prepare: Prepare) -> None:
    session, state = prepare(SHARING)
    state = stages.setup_late(replace(session, journal=Journal(session.workspace.journal)), state)
    assert state.failures == ()
    assert run_commands(session.workspace, Budget(60))
    assert (Path(session.workspace.temporary) / "common/first").read_text() == "program\nfunction end\n"


@pytest.mark.parametrize("name", ["..", ".hidden", "a/b", "/tmp"])
def test_a_shared_directory_is_one_of_the_workspace(prepare: Prepare, name: str) -> None:
    source = SHARING.replace('directory="common"', f'directory="{name}"')
    with pytest.raises(PilotError, match="is no name"):
        prepare(source)


def test_what_setups_did_is_undone_once_in_reverse_also_after_a_failure(prepare: Prepare) -> None:
    session, state = prepare(UNDONE)
    state = stages.setup_late(replace(session, journal=Journal(session.workspace.journal)), state)
    assert state.job_environment == {"FIRST": "1", "THIRD": "3"}
    assert run_commands(session.workspace, Budget(60))
    assert not run_commands(session.workspace, Budget(60))
    while True:  # the one that was killed is left to whoever ends all descendants
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
    assert (Path(session.workspace.temporary) / "undone").read_text() == "second\nfirst\n"
    ends = {event["name"]: event["status"] for event in events(session) if event["event"] == "teardown.ended"}
    assert list(ends) == ["teardown of third", "teardown of second", "teardown of first"]
    assert "did not end" in ends["teardown of third"]
    assert (ends["teardown of second"], ends["teardown of first"]) == ("exited 1", "ok")


def test_pilot_services_run_beside_and_are_journalled(prepare: Prepare) -> None:
    session, state = prepare("""
@hookimpl
def pilot_services(config):
    command = ("/bin/sh", "-c", "touch {workspace}/ready; exec sleep 600")
    yield Service(name="cache", command=command, readiness=Readiness(file="{workspace}/ready", timeout_seconds=60),
                  attributes={"HasCache": True})
""")
    state = stages.service(replace(session, journal=Journal(session.workspace.journal)), state)
    [service] = state.services
    assert service.pid is not None
    try:
        assert (service.status, service.attributes) == ("ready", {"HasCache": True}), service.message
        entries = [json.loads(line) for line in Path(session.workspace.journal).read_text().splitlines()]
        assert str(service.pid) in json.dumps(entries)
        assert "service cache" in json.dumps(entries[0])
    finally:
        os.killpg(service.pid, signal.SIGKILL)
        os.waitpid(service.pid, 0)


class ClockThatGoesBack(EventLog):
    """An event log on a node whose clock is moved back two hours at every look."""

    now = 0.0

    def seconds(self) -> float:
        self.now -= 7200
        return self.now


def test_a_clock_that_is_moved_back_makes_no_negative_time(prepare: Prepare) -> None:
    session, state = prepare("""
@hookimpl
def pilot_services(config):
    yield Service(name="cache", command=("/bin/true",), required=False)
""")
    events = ClockThatGoesBack(session.events.path, session.events.started)
    journal = Journal(session.workspace.journal)
    state = stages.service(replace(session, events=events, journal=journal), state)
    assert [entry.seconds >= 0 for entry in state.timeline if entry.what == "cache"] == [True]


@pytest.mark.parametrize("required", [True, False])
def test_a_service_that_does_not_start_ends_the_pilot_only_if_it_is_required(prepare: Prepare, required: bool) -> None:
    session, state = prepare(f"""
@hookimpl
def pilot_services(config):
    yield Service(name="gone", command=("/nowhere/squid",), required={required})
""")
    state = stages.service(session, state)
    assert state.services[0].status == "failed"
    assert [failure.code for failure in state.failures] == (["service.program"] if required else [])


SHARED_NODE = """
@hookimpl
def pilot_services(config):
    yield Service(name="cache", command=("/bin/sleep", "600"), cores=2, memory_mib=1000)
    yield Service(name="large", command=("/bin/sleep", "600"), cores=2, required=False)
"""


def test_jobs_have_what_services_leave_and_requirements_are_judged_by_that(prepare: Prepare) -> None:
    session, state = prepare(SHARED_NODE, {"requirements": ["cpu.usable >= 3", "memory.usable_mib >= 1000"]})
    facts = {"cpu.usable": Fact("cpu.usable", 6, "cores"), "memory.usable_mib": Fact("memory.usable_mib", 2000, "MiB")}
    state = stages.validate(session, replace(state, facts=facts))
    assert (state.checks[0].name, state.checks[0].status) == ("services", CheckStatus.PASS)
    assert state.checks[0].message.endswith("jobs get 2 cores, 1000 MiB")
    assert {name: fact.value for name, fact in state.facts.items()} == {"cpu.usable": 2, "memory.usable_mib": 1000}
    assert [failure.code for failure in state.failures] == ["requirement.cpu.usable"]
    assert state.with_resolved_limits().facts["cpu.usable"].value == 2


def test_an_optional_service_that_would_leave_nothing_to_jobs_is_not_started(prepare: Prepare) -> None:
    session, state = prepare(SHARED_NODE.replace("cores=2, memory_mib=1000", "cores=1, required=False"))
    state = stages.validate(session, replace(state, facts={"cpu.usable": Fact("cpu.usable", 3, "cores")}))
    assert (state.checks[0].status, state.checks[0].code) == (CheckStatus.WARN, "services.too_large")
    assert state.failures == ()
    state = stages.service(session, replace(state, services=()))
    try:
        large = next(service for service in state.services if service.name == "large")
        assert large.status == "failed"
        assert large.message.startswith("it cannot run beside jobs: it takes 2 cores of the 2 cores that are left")
    finally:
        for service in state.services:
            if service.pid is not None:
                os.killpg(service.pid, signal.SIGKILL)
                os.waitpid(service.pid, 0)


def test_a_required_service_that_would_leave_nothing_to_jobs_ends_the_pilot_before_anything_starts(
    prepare: Prepare,
) -> None:
    session, state = prepare(SHARED_NODE)
    state = stages.validate(session, replace(state, facts={"cpu.usable": Fact("cpu.usable", 2, "cores")}))
    [failure] = state.failures
    assert (failure.kind, failure.code) == (FailureKind.CONFIG, "services.too_large")
    assert "the service cache cannot run beside jobs: it takes 2 cores of the 2 cores" in failure.message


def test_jobs_get_the_variables_of_services_that_are_not_given_up(prepare: Prepare) -> None:
    session, state = prepare("""
@hookimpl
def pilot_services(config):
    yield Service(name="cache", command=("/bin/true",), ports={"http": 0})
    yield Service(name="gone", command=("/bin/true",), ports={"http": 0})
""")
    decision = ContainerDecision("NEVER", "NEVER x NEVER", "")
    services = (ServiceState("cache", "ready"), ServiceState("gone", "failed"))
    state = stages.advertise(session, replace(state, container=decision, services=services))
    assert state.container is not None
    names = {one.name for one in state.container.surroundings.environment if one.given}
    assert names == {f"SERVICE_CACHE_{end}" for end in ("HOST", "PORT", "URL", "PORT_HTTP")}


def test_pilot_benchmarks_give_scores_and_their_failures_are_never_fatal(prepare: Prepare) -> None:
    session, state = prepare("""
def score(context):
    return BenchmarkScore("hash", 12.5, "MB/s", 0.1, attributes={"HashRate": 12.5})

def greedy(context):
    return len(bytearray(2 << 30))

@hookimpl
def pilot_benchmarks(config):
    yield Benchmark(name="greedy", run=f"{__name__}:greedy", memory_mib=256, cache_days=0)
    yield Benchmark(name="hash", run=f"{__name__}:score", cache_days=0)
""")
    state = stages.benchmark(session, state)
    greedy, hash_rate = state.benchmarks
    assert (greedy.status, greedy.score) == ("failed", None)
    assert (hash_rate.score, hash_rate.unit) == (12.5, "MB/s")
    assert {entry.what: entry.status for entry in state.timeline} == {"greedy": "failed", "hash": "ok"}
    assert not state.failures
    told = {"HashRate": 12.5, "BENCHMARK_HASH": 12.5, "BENCHMARK_HASH_UNIT": "MB/s"}
    assert stages.advertise(session, state).attributes == told


def test_pilot_attributes_reach_the_ad_and_unknown_facts_do_not(prepare: Prepare) -> None:
    session, state = prepare(
        """
@hookimpl
def pilot_attributes(config):
    yield Attribute(name="Literal", value=[1, "two"])
    yield Attribute(name="Cores", fact="example.cores")
    yield Attribute(name="Lost", fact="example.lost")
    yield Attribute(name="Never", fact="example.never")
    yield Attribute(name="Site", value="plugin")
""",
        {"startd": {"attributes": {"Site": "configured"}}},
    )
    state = state.with_findings([Fact("example.cores", 4), Fact.unknown("example.lost", "x")])
    assert stages.advertise(session, state).attributes == {"Literal": [1, "two"], "Cores": 4, "Site": "configured"}


def test_pilot_images_are_judged_with_those_of_the_configuration(prepare: Prepare) -> None:
    session, state = prepare(
        """
@hookimpl
def pilot_images(config):
    yield ImageCandidate("el9", "/nowhere/el9", origin="example")
""",
        {"vo": {"containers": "preferred"}, "images": {"el8": ["/nowhere/el8"]}},
    )
    state = stages.container(session, state)
    assert state.container is not None
    assert state.container.images == {}


def test_pilot_containers_startd_and_periodics_keep_what_they_ask_for(prepare: Prepare) -> None:
    session, _ = prepare("""
@hookimpl
def pilot_containers(config):
    yield ContainerRequest(name="data", binds=("/data:/data:ro",), environment={"A": "1"}, options=("--nv",))

@hookimpl
def pilot_startd(config):
    yield StartdFragment(name="rank", text="RANK = 1")

@hookimpl
def pilot_periodics(config):
    yield Periodic(name="load", run=f"{__name__}:load", period_seconds=60, on_failure="drain")
""")
    records = {declared.hook: declared.record for declared in session.loaded.declared}
    assert records["pilot_containers"].options == ("--nv",)
    assert records["pilot_startd"].text == "RANK = 1"
    assert (records["pilot_periodics"].run, records["pilot_periodics"].on_failure) == ("example:load", "drain")


def test_the_stages_are_those_of_the_design_in_their_order() -> None:
    assert list(stages.STAGES) == [
        "probe",
        "mount",
        "setup_early",
        "container",
        "validate",
        "setup_late",
        "service",
        "benchmark",
        "advertise",
    ]


def test_time_in_the_timeline_counts_from_the_pilots_start(prepare: Prepare) -> None:
    session, state = prepare(SETUPS)
    entry = stages.setup_late(session, state).timeline[0]
    assert 0 <= entry.start <= time.time() - state.started
    assert entry.seconds >= 0
