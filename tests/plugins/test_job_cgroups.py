"""The report says what keeps jobs from having control groups of their own, and who can change it."""

from __future__ import annotations

import pytest

from pilot_agent.model import Fact, Json
from pilot_agent.plugins.job_cgroups import why_no_cgroups


def reason(
    delegated: bool = True, version: str = "v2", controllers: tuple[str, ...] = ("cpu", "memory"), detail: str = ""
) -> str:
    found: dict[str, Json] = {"delegated": delegated, "version": version, "delegated_controllers": list(controllers)}
    return why_no_cgroups(
        {f"cgroup.{name}": Fact(f"cgroup.{name}", value, detail=detail) for name, value in found.items()}
    )


def test_what_no_probe_could_tell_is_left_to_the_trial() -> None:
    assert why_no_cgroups({}) == ""
    assert why_no_cgroups({"cgroup.delegated": Fact.unknown("cgroup.delegated", "the trial did not end")}) == ""


def test_a_group_that_is_not_delegated_has_the_probes_reason() -> None:
    assert reason(delegated=False, detail="no group can be made (EACCES)") == "no group can be made (EACCES)"


@pytest.mark.parametrize("version", ["v1", "hybrid"])
def test_htcondor_needs_version_2(version: str) -> None:
    assert reason(version=version).endswith(f"makes groups of version 2 only, and this node has {version}")


def test_groups_without_the_memory_controller_limit_no_jobs_memory() -> None:
    assert reason(controllers=("cpu",), detail="cannot be enabled (EACCES)").endswith(
        "without the controller of memory: cannot be enabled (EACCES)"
    )
    assert reason(controllers=()).endswith("it is not enabled for the pilot's group")


def test_where_all_is_delegated_the_probes_found_nothing_in_the_way() -> None:
    assert reason() == ""
