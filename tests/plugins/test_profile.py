"""The rules of the built-in profile."""

from __future__ import annotations

import pytest

from pilot_agent.config import load_config
from pilot_agent.containers.selftest import Tried
from pilot_agent.hookspecs import Context
from pilot_agent.model import CheckStatus, Fact
from pilot_agent.plugins import profile
from pilot_agent.plugins.profile import RULES, check_memory, check_runtime, check_workspace, judge_runtimes


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
