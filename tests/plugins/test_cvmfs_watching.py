"""What the keeper is told to watch of CVMFS, from what was found and wished."""

from __future__ import annotations

from typing import Any

import pytest

from pilot_agent.cvmfs import published
from pilot_agent.lifecycle.plan import CvmfsPlan
from pilot_agent.model import Fact, Json
from pilot_agent.plugins.cvmfs_watching import ANY, PROXIED, watch_plan
from tests.cvmfs.grounds import A, B, configured, known

INTERPRETER = ("/usr/bin/python3", "-I", "pilot.pyz")


def planned(
    rung: str = "native",
    decision: str = "PREFERRED",
    contained: bool = False,
    wished: dict[str, Json] | None = None,
    **facts: Json,
) -> CvmfsPlan:
    """The plan where this rung was taken; facts by their names after ``cvmfs.``."""
    found = known(*(Fact(f"cvmfs.{name}", value) for name, value in facts.items()))
    ladder = {"decision": decision, "rungs": [{"name": "none", "state": "refused"}, {"name": rung, "state": "taken"}]}
    config = configured(cvmfs=wished or {})
    return watch_plan(found, config, ladder, interpreter=INTERPRETER, environment={"A": "b"}, contained=contained)


def test_what_answered_is_watched_and_what_did_not_is_said_to_be_absent() -> None:
    refused = [{"repository": B, "reason": "hung"}, {"repository": "c.example.org", "reason": "broken"}]
    plan = planned(repositories=[A], refused=refused, revisions={A: 7}, mount_point="/cvmfs")
    assert (plan.repositories, plan.absent, plan.revisions) == ((A,), (B, "c.example.org"), {A: 7})
    assert plan.command == (*INTERPRETER, "_cvmfs", "look")
    assert (plan.mount_point, plan.advertised, plan.remount) == ("/cvmfs", True, ())
    assert "the site" in plan.repair
    assert CvmfsPlan.from_json(plan.to_json()).to_json() == plan.to_json()


@pytest.mark.parametrize(("decision", "required"), [("PREFERRED", ()), ("OPTIONAL", ()), ("REQUIRED", (A, B))])
def test_only_what_is_required_keeps_all_jobs_out(decision: str, required: tuple[str, ...]) -> None:
    assert planned(decision=decision, repositories=[A, B]).required == required


@pytest.mark.parametrize("contained", [True, False])
def test_the_pilots_own_mounts_are_mounted_again_from_their_distribution(contained: bool) -> None:
    plan = planned("fusermount", contained=contained, repositories=[A], mount_point="/scratch/w/cvmfs/dist/cvmfs")
    assert plan.remount == (*INTERPRETER, "_cvmfs", "remount", "/scratch/w/cvmfs")
    assert plan.advertised is contained


def test_from_inside_the_namespace_nothing_can_be_mounted_again() -> None:
    plan = planned("namespace", repositories=[A], mount_point="/cvmfs")
    assert (plan.remount, plan.advertised) == ((), True)
    assert "cannot mount again" in plan.repair


@pytest.mark.parametrize("ladder", [None, {}])
def test_nothing_is_watched_where_nothing_is_known(ladder: Any) -> None:
    plan = watch_plan({}, configured(), ladder, interpreter=INTERPRETER, environment={}, contained=False)
    assert (plan.repositories, plan.absent, plan.required) == ((), (A, B), ())


@pytest.mark.parametrize(("direct", "way"), [("fallback", ANY), ("only", ANY), ("never", PROXIED)])
def test_servers_are_asked_in_the_ways_that_the_configuration_allows(direct: str, way: str) -> None:
    plan = planned(repositories=[A], wished={"direct": direct})
    assert plan.compare == (*INTERPRETER, "_cvmfs", "published", way)
    assert plan.compare_seconds == 900
    assert way in published.WAYS, "the child knows the word"


def test_nobody_is_asked_where_that_is_not_wished() -> None:
    assert planned(repositories=[A], wished={"compare_period_seconds": 0}).compare == ()
