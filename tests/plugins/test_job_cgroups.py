"""The report says what keeps jobs from having control groups of their own, and who can change it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pilot_agent.model import Fact, FailureKind, Json, PilotError
from pilot_agent.plugins.job_cgroups import plan_job_cgroups, why_no_cgroups
from tests.startd.plans import plan as startd_plan
from tests.startd.test_condor_plugin import config, inputs


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


BARE = startd_plan(container=None)
DENIED = {"cgroup.delegated": Fact("cgroup.delegated", False, detail="the site must put Delegate=yes into it")}


def test_the_reason_is_what_the_site_must_change_where_they_are_only_wished_for() -> None:
    plan = plan_job_cgroups(inputs(facts=DENIED), BARE)
    assert (plan.used, plan.reason) == (False, "the site must put Delegate=yes into it")


def test_where_they_are_required_the_pilot_fails_for_the_same_reason() -> None:
    wanted = inputs(facts=DENIED, config=config(startd__job_cgroups="Required"))
    with pytest.raises(PilotError, match=r"is required, .*the site must put Delegate=yes") as caught:
        plan_job_cgroups(wanted, BARE)
    assert (caught.value.failure.kind, caught.value.failure.code) == (FailureKind.NODE_RESOURCE, "cgroups.unusable")


@pytest.mark.parametrize("facts", [{}, DENIED])
def test_jobs_with_containers_have_none_and_nobody_at_the_site_is_sent_for_that(facts: dict[str, Fact]) -> None:
    plan = plan_job_cgroups(inputs(facts=facts), startd_plan())
    assert not plan.used
    assert "for which it has run a hook before" in plan.reason
    assert "the site cannot change that" in plan.reason
    with pytest.raises(PilotError) as caught:
        plan_job_cgroups(inputs(facts=facts, config=config(startd__job_cgroups="required")), startd_plan())
    assert (caught.value.failure.kind, caught.value.failure.code) == (FailureKind.CONFIG, "cgroups.contained")


def test_who_never_wants_them_has_nothing_tried() -> None:
    plan = plan_job_cgroups(inputs(config=config(startd__job_cgroups="never")), BARE)
    assert (plan.used, plan.reason) == (False, "startd.job_cgroups is never; the layer that says so must change it")


@pytest.mark.parametrize("version", ["23.9.5", "23.0.14", "23.9", "9.0.20", "unknown", ""])
def test_an_htcondor_that_cannot_make_them_is_named(version: str) -> None:
    plan = plan_job_cgroups(inputs(), replace(BARE, condor=replace(BARE.condor, version=version)))
    assert not plan.used
    assert plan.reason.startswith(
        f"HTCondor makes groups without root's rights from 23.9.6 on, and this one is {version}"
    )
