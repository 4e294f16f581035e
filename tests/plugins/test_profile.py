"""The rules of the built-in profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.config import Layer, load_config
from pilot_agent.containers.selftest import Tried
from pilot_agent.hookspecs import Context
from pilot_agent.model import CheckResult, CheckStatus, Fact
from pilot_agent.plugins import profile
from pilot_agent.plugins.profile import RULES, check_memory, check_runtime, check_workspace, judge_runtimes
from tests.containers.runtimes import make_runtime


def context(*facts: Fact) -> Context:
    return Context(facts={fact.name: fact for fact in facts}, root="/recorded")


def test_the_rules_are_declared_only_where_they_are_asked_for() -> None:
    config = dict(load_config([]).values)
    assert list(profile.pilot_checks(config)) == []
    config["checks"] = {"profile": "pilot"}
    assert [check.name for check in profile.pilot_checks(config)] == [rule.name for rule in RULES]
    assert all(hasattr(profile, rule.function) for rule in RULES)


@pytest.mark.parametrize(("free", "status"), [(5120, CheckStatus.PASS), (5119, CheckStatus.FAIL)])
def test_a_workspace_needs_five_gibibytes(free: int, status: CheckStatus) -> None:
    result = check_workspace(context(Fact("disk.workspace_free_mib", free, "MiB", source="statvfs /scratch")))
    assert result.status is status
    if status is CheckStatus.FAIL:
        assert (result.code, "/scratch" in result.hint) == ("disk.too_small", True)


@pytest.mark.parametrize(("memory", "status"), [(4096, CheckStatus.PASS), (4095, CheckStatus.FAIL)])
def test_every_core_needs_a_gibibyte(memory: int, status: CheckStatus) -> None:
    facts = (Fact("cpu.usable", 4, "cores"), Fact("memory.usable_mib", memory, "MiB", source="cgroup2 memory.max /x"))
    result = check_memory(context(*facts))
    assert result.status is status
    if status is CheckStatus.FAIL:
        assert result.code == "memory.too_small"
        assert "cgroup2 memory.max /x" in result.message
        assert "site.cpus = 3" in result.hint


def test_what_is_not_known_fails_with_the_reason() -> None:
    unknown = Fact.unknown("disk.workspace_free_mib", "statvfs was refused")
    assert "statvfs was refused" in check_workspace(context(unknown)).message
    assert check_memory(context(Fact("cpu.usable", 4, "cores"))).status is CheckStatus.FAIL


def test_the_first_runtime_that_runs_a_program_is_enough_and_others_are_told() -> None:
    broken = Tried("/opt/bin/apptainer", problem="exited 255", code="container.not_started", hint="repair it")
    good = Tried("/usr/bin/apptainer", "1.4.5", "userns")
    result = judge_runtimes([broken, good])
    assert result.status is CheckStatus.PASS
    assert "/usr/bin/apptainer 1.4.5 ran a program, userns" in result.message
    assert "/opt/bin/apptainer: exited 255" in result.message


def test_no_runtime_and_none_that_works_are_told_apart_with_the_change() -> None:
    nothing = judge_runtimes([])
    assert (nothing.status, nothing.code) == (CheckStatus.FAIL, "container.missing")
    broken = Tried("/usr/bin/apptainer", "1.4.5", problem="no user namespaces", code="userns.disabled", hint="allow")
    result = judge_runtimes([broken])
    assert (result.status, result.code, result.hint) == (CheckStatus.FAIL, "userns.disabled", "allow")


def test_no_container_is_run_for_a_recording() -> None:
    assert check_runtime(context()).status is CheckStatus.SKIP


def test_runtimes_are_looked_for_where_a_run_would_look(tmp_path: Path) -> None:
    runtime = make_runtime(tmp_path / "condor/usr/libexec")
    environment = {"PATH": str(tmp_path)}

    def checked(search: list[str]) -> CheckResult:
        layer = {"containers": {"search": search}, "startd": {"condor_directory": str(tmp_path / "condor")}}
        config = load_config([Layer("site", layer)]).values
        return check_runtime(Context(facts={}, config=config, environment=environment, root="/"))

    found = checked(["condor"])
    assert (found.status, str(runtime) in found.message) == (CheckStatus.PASS, True)
    assert (nothing := checked([])).code == "container.missing", nothing


@pytest.mark.parametrize(
    ("fact", "status", "code"),
    [
        (Fact.absent("software.apptainer", "neither is on the search path"), CheckStatus.FAIL, "container.missing"),
        (Fact.unknown("software.apptainer", "it was not recorded"), CheckStatus.SKIP, ""),
        (Fact("software.apptainer", [{"path": "/usr/bin/apptainer"}]), CheckStatus.SKIP, ""),
    ],
)
def test_a_recording_of_a_node_without_a_runtime_is_judged_like_the_node(
    fact: Fact, status: CheckStatus, code: str
) -> None:
    result = check_runtime(context(fact))
    assert (result.status, result.code) == (status, code)
    if status is CheckStatus.SKIP:
        assert (fact.detail or "/usr/bin/apptainer") in result.message
