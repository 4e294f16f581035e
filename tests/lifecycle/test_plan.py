"""The keeper's plan crosses an exec as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.lifecycle import plan
from pilot_agent.lifecycle.record import PlanError
from pilot_agent.services.plan import ServicePlan, Standing


def whole() -> plan.KeeperPlan:
    return plan.KeeperPlan(
        workspace="/w/pilot-1",
        output="/out",
        pilot_id="1",
        started=12.5,
        master=plan.MasterPlan(
            argv=["/sbin/condor_master", "-f"], environment={"A": "b"}, directory="/w", log="/w/log"
        ),
        join=plan.JoinPlan(
            commands=[["/bin/ping", "x"]],
            collectors=["x"],
            environment={},
            seconds=60,
            period_seconds=5,
            clock_commands=[["/bin/status", "x"]],
        ),
        channel=plan.ChannelPlan(path="/w/fifo", period_seconds=20, attributes={"A": 1}),
        services=[ServicePlan(name="s", standing=Standing(pid=3, status="ready"))],
        periodics=[
            plan.PeriodicPlan(name="p", argv=["/bin/true"], environment={}, period_seconds=9, timeout_seconds=3)
        ],
        time=plan.TimePlan(deadline=99.5),
        history="/w/history",
        disk=plan.DiskPlan(paths=["/w"], floor_mib=256),
        cvmfs=plan.CvmfsPlan(repositories=["a.example.org"], command=["/bin/ls"]),
        black_hole=plan.BlackHolePlan(jobs=7),
    )


def test_a_plan_is_read_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "keeper.json"
    path.write_text(json.dumps(plan.to_json(whole())))
    found = plan.read_plan(str(path))
    assert plan.to_json(found) == plan.to_json(whole())
    assert found.master.argv == ("/sbin/condor_master", "-f")
    assert found.time.budget_seconds == 25.0
    assert (found.disk.floor_mib, found.cvmfs.command, found.black_hole.jobs) == (256, ("/bin/ls",), 7)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"surplus": 1}, "surplus"),
        ({"master": {"argv": []}}, "MasterPlan"),
        ({"services": [3]}, "ServicePlan"),
        ({"time": {"deadlin": 3}}, "deadlin"),
        ({"black_hole": {"job": 3}}, "BlackHolePlan"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], word: str) -> None:
    with pytest.raises(PlanError, match=word):
        plan.KeeperPlan.from_json({**plan.to_json(whole()), **change})


def test_a_missing_part_is_named() -> None:
    data = plan.to_json(whole())
    del data["channel"]
    with pytest.raises(PlanError, match="channel"):
        plan.KeeperPlan.from_json(data)


def test_text_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keeper.json").write_text("{")
    with pytest.raises(PlanError, match="keeper"):
        plan.read_plan(str(tmp_path / "keeper.json"))
