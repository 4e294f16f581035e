"""The fixtures for plugin authors, used as an author uses them: in a pytest of their own, on a plugin of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pilot_agent.environment import clean_environment
from pilot_agent.process import Result, run

ROOT = Path(__file__).parents[2]

PLUGIN = """
from pilot_agent.hookspecs import Attribute, Check, Probe, Service, Readiness, Setup, SetupResult, hookimpl
from pilot_agent.model import CheckResult, CheckStatus, Fact


def release(context):
    try:
        with open(context.path("/etc/example-release")) as file:
            yield Fact("example.release", file.read().strip(), source="/etc/example-release")
    except FileNotFoundError:
        yield Fact.absent("example.release", "no /etc/example-release")


def sites_word(context):
    return SetupResult(environment={"EXAMPLE_WORD": context.environment.get("EXAMPLE_WORD", "none")})


def new_enough(context):
    wanted = context.config["plugins"]["options"]["example"]["oldest"]
    found = context.value("example.release")
    if found is None:
        return CheckResult("release", CheckStatus.SKIP, "no release is known")
    status = CheckStatus.PASS if float(found) >= wanted else CheckStatus.FAIL
    return CheckResult("release", status, f"release {found}, {wanted} is the oldest")


@hookimpl
def pilot_options():
    from pilot_agent.hookspecs import Option
    yield Option(name="oldest", type="number", default=2.0)


@hookimpl
def pilot_probes():
    yield Probe(name="release", run=f"{__name__}:release", gives=("example.release",))


@hookimpl
def pilot_setups():
    yield Setup(name="word", run=f"{__name__}:sites_word", teardown=("/bin/true",))


@hookimpl
def pilot_checks():
    yield Check(name="release", run=f"{__name__}:new_enough")
    yield Check(name="inside", where="image", script="inside.sh")


@hookimpl
def pilot_attributes():
    yield Attribute(name="ExampleRelease", fact="example.release")


@hookimpl
def pilot_services():
    beat = ("/bin/sh", "-c", "touch ready; exec sleep 600")
    yield Service(name="beat", command=beat, readiness=Readiness(file="ready"))
"""
INSIDE = """#!/bin/sh
[ -r "$PILOT_CONTEXT" ] && [ "$APPTAINER_CONTAINER" = stand-in ] || exit 1
echo "looked at from inside"
"""
PROJECT = """
[project]
name = "example-plugin"
version = "1.2"

[project.entry-points.pilot_agent]
example = "example_plugin.hooks"
"""
PREAMBLE = """
import pytest
from pilot_agent.model import PilotError
from pilot_agent.testing import *
"""
TESTS = (
    PREAMBLE
    + """
def test_only_our_own_node_has_the_release(pilot_node, pilot_run):
    outcome = pilot_run(node=pilot_node)
    if pilot_node.name == "ours":
        assert_check(outcome, "release", "pass")
        return
    assert_plugin_ran(outcome, "example", "release")
    assert_fact(outcome, "example.release", status="absent", detail="no /etc/ex")
    assert_check(outcome, "release", "skip")
    assert_reported(outcome, "node.example.release.status", "absent")
    assert_nothing_left(outcome)


def test_a_node_may_be_given_a_file_and_variables(make_pilot_node, pilot_run):
    node = make_pilot_node("slurm_cgroup2")
    node.write("/etc/example-release", "1.5")
    assert node.environment["SLURM_JOB_ID"]
    outcome = pilot_run(node=node, environment={"EXAMPLE_WORD": "tree"}, through="advertise")
    assert_fact(outcome, "example.release", "1.5")
    assert_fact(outcome, "batch.system", "slurm")
    assert_check(outcome, "release", "fail", message="2.0 is the oldest")
    assert_fails(outcome, "node_resource", "check.release")
    assert outcome.environment == {"EXAMPLE_WORD": "tree"}
    assert_attribute(outcome, "ExampleRelease", "1.5")


def test_an_option_decides(make_pilot_node, pilot_run):
    node = make_pilot_node()
    node.write("/etc/example-release", "1.5")
    assert_check(pilot_run(node=node, options={"oldest": 1.0}), "release", "pass")


def test_a_wrong_option_is_refused(make_pilot_node, pilot_run):
    with pytest.raises(PilotError, match="plugins.options.example.oldest"):
        pilot_run(node=make_pilot_node(), options={"oldest": "young"})


def test_on_this_machine_with_a_stand_in_for_the_runtime(pilot_runtime, pilot_run):
    outcome = pilot_run(through="service", config=pilot_runtime.config)
    assert_service(outcome, "beat")
    assert_check(outcome, "inside", "pass", message="looked at from inside")
    assert_plugin_ran(outcome, "example", "word", "beat", "inside")
    assert_event(outcome, "task.ended", plugin="example", name="release")
    assert_journaled(outcome, label="teardown of word")
    assert any("--home" in call for call in pilot_runtime.calls())
    assert_nothing_left(outcome)
"""
)
WRONG = (
    PREAMBLE
    + """
def test_what_is_wrong_is_told_with_what_was_there(make_pilot_node, pilot_run):
    outcome = pilot_run(node=make_pilot_node())
    for say, told in [
        (lambda o: assert_fact(o, "example.releese"), "of example there are: example.release"),
        (lambda o: assert_fact(o, "example.release", "1.0"), "is absent, not known"),
        (lambda o: assert_fact(o, "example.release", status="absent", detail="zzz"), "'zzz' is not found in"),
        (lambda o: assert_check(o, "releese"), "there is no check releese; there are: .*release"),
        (lambda o: assert_check(o, "release"), "the check release says skip, not pass: no release is known"),
        (lambda o: assert_check(o, "release", "skip", message="zzz"), "'zzz' is not found in it"),
        (lambda o: assert_fails(o, "network"), "no failure is network; there are: "),
        (lambda o: assert_plugin_ran(o, "example", "nothing"), "of example nothing was run; there was: release"),
        (lambda o: assert_plugin_ran(o, "other"), "of other nothing was run; there was: none"),
        (lambda o: assert_service(o, "beat"), "there is no service beat; there are: none"),
        (lambda o: assert_attribute(o, "ExampleRelease"), "the ad has no ExampleRelease; it has: none"),
        (lambda o: assert_event(o, "task.begun"), "of those that are there: .*task.ended"),
        (lambda o: assert_event(o, "task.ended", plugin="other"), "no event has"),
        (lambda o: assert_journaled(o, label="x"), "no line of the journal has"),
        (lambda o: assert_reported(o, "node.example.releese"), "at node.example is: release"),
        (lambda o: assert_reported(o, "node.example.release.status", "known"), "in the report, not 'known'"),
    ]:
        with pytest.raises(AssertionError, match=told):
            say(outcome)
"""
)
BROKEN = (
    PREAMBLE
    + """
def test_a_function_that_crashes_is_told_with_what_it_said(tmp_path, make_pilot_node, pilot_run):
    (tmp_path / "bad.py").write_text(
        "from pilot_agent.hookspecs import *\\n"
        "def look(context):\\n    print('before the end'); raise OSError('no disk')\\n"
        "@hookimpl\\ndef pilot_probes():\\n    yield Probe(name='look', run='bad:look')\\n"
    )
    outcome = pilot_run(node=make_pilot_node(), plugins=["bad"], directories=[tmp_path])
    with pytest.raises(AssertionError, match="(?s)look: failed .*no disk.*before the end"):
        assert_plugin_ran(outcome, "bad")


def test_a_stage_that_is_none_is_refused(pilot_run):
    with pytest.raises(PilotError, match="no stage validat can be rehearsed; did you mean validate"):
        pilot_run(through="validat")


def test_a_node_that_is_none_is_refused(make_pilot_node):
    with pytest.raises(PilotError, match="no recorded node slurm_cgroup; did you mean slurm_cgroup2"):
        make_pilot_node("slurm_cgroup")


def test_a_plugin_that_does_not_load_is_told(tmp_path, make_pilot_node, pilot_run):
    with pytest.raises(PilotError, match="no module nowhere was found"):
        pilot_run(node=make_pilot_node(), plugins=["nowhere"], directories=[tmp_path])
"""
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distribution as an author has it."""
    project = tmp_path_factory.mktemp("project")
    package = project / "src" / "example_plugin"
    package.mkdir(parents=True)
    (project / "pyproject.toml").write_text(PROJECT)
    (package / "__init__.py").write_text("")
    (package / "hooks.py").write_text(PLUGIN)
    (package / "inside.sh").write_text(INSIDE)
    (package / "inside.sh").chmod(0o755)
    node = project / "tests" / "nodes" / "ours"
    (node / "root" / "etc").mkdir(parents=True)
    (node / "root" / "etc" / "example-release").write_text("3.0")
    (node / "recording.json").write_text('{"schema": "pilot-agent/recording/1", "origin": "composed"}')
    (project / "tests" / "conftest.py").write_text('pytest_plugins = ["pilot_agent.testing"]\n')
    return project


def outcome_of(project: Path, text: str) -> Result:
    """How pytest ends on these tests of the plugin."""
    (project / "tests" / "test_it.py").write_text(text)
    argv = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(project / "tests")]
    environment = clean_environment(dict(os.environ), home=str(project), temporary=str(project))
    environment |= {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    return run(argv, deadline_seconds=300, environment=environment, directory=str(project))


@pytest.mark.parametrize(
    ("text", "passed"),
    [(TESTS, 9), (WRONG, 1), (BROKEN, 4)],
    ids=["an author's tests pass", "assertions fail with what was there", "what is wrong is told"],
)
def test_a_plugin_is_tested_with_the_fixtures(project: Path, text: str, passed: int) -> None:
    result = outcome_of(project, text)
    assert result.ok, result.stdout.decode()
    assert f"{passed} passed" in result.text
