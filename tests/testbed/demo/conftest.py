"""A run of the demo in which everything went as it must, for tests to spoil."""

from __future__ import annotations

from typing import Any

import pytest

from tests.testbed.demo.factory import ENTRIES, PilotRow
from tests.testbed.demo.jobs import PLANS, Job
from tests.testbed.demo.outcome import Outcome, PilotStory, Visit
from tests.testbed.demo.traces import Traces

NOTHING = Traces(frozenset(), frozenset(), frozenset())
SOMETHING = Traces(frozenset({"uid 1502 condor_startd"}), frozenset(), frozenset({"/tmp/pilot-aa"}))
VISITOR = {"os": "debian 12", "directory": "/srv", "namespace": "mnt:[10]", "tokens": ""}


def report(pilot_id: str, ended: dict[str, int]) -> dict[str, Any]:
    known = {"status": "known", "unit": "cores", "source": "affinity"}
    return {
        "schema": "pilot-agent/report/1",
        "pilot": {"id": pilot_id, "started": "2026-01-01T00:00:00.000Z", "finished": "2026-01-01T00:01:00.000Z"},
        "outcome": {"status": "ok", "failure": None},
        "timeline": [
            {"stage": "probe", "plugin": "agent", "what": "stage", "start": 0.1, "seconds": 0.2, "status": "ok"},
            {"stage": "container", "plugin": "agent", "what": "stage", "start": 0.3, "seconds": 0.4, "status": "ok"},
            {"stage": "teardown", "plugin": "agent", "what": "teardown", "start": 59.0, "seconds": 0.5, "status": "ok"},
        ],
        "node": {"cpu": {"usable": {**known, "value": 2}}, "cvmfs": {"repositories": {"status": "absent"}}},
        "container": {
            "decision": "REQUIRED",
            "cell": "PREFERRED x REQUIRED",
            "runtime": {"path": "/usr/bin/apptainer", "version": "1.4.5", "mode": "userns"},
            "why": [{"platform": "debian13", "candidate": "/images/debian13", "taken": True, "reason": "it runs"}],
        },
        "services": [{"name": "clock", "status": "ready"}],
        "benchmarks": [{"name": "short", "score": 12.345, "unit": "rounds/s"}],
        "jobs": {"started": sum(ended.values()), "ended": ended},
        "leftovers": [],
    }


def story(entry: str, pilot_id: str, ended: dict[str, int]) -> PilotStory:
    row = PilotRow(
        f"f-{pilot_id}", entry, "ended", "wn.site.test", 0, "ok", "", f"/state/{pilot_id}", "pilot.pyz", True
    )
    return PilotStory(row, report(pilot_id, ended))


@pytest.fixture
def outcome() -> Outcome:
    jobs = []
    for cluster, plan in enumerate(PLANS, 1):
        for process in range(plan.count):
            said = {"os": plan.os, "tokens": "", "container": "/x", "directory": "/srv", "uid": "1502"}
            said["namespace"] = f"mnt:[{cluster}{process}]"
            if plan.name == "long":
                said["visitor"] = "wn1"
            number = f"{cluster}.{process}"
            began = 1767225605.0 + 3 * cluster
            slot = f"slot1_{cluster}@pilot_aa"
            jobs.append(Job(number, plan, "completed", plan.exit_code, slot, began, began + 3.0, "", said))
    pilots = (story("with-python", "aa", {"exit 0": 7, "exit 3": 1}), story("without-python", "bb", {}))
    assert len(pilots) == len(ENTRIES)
    visit = Visit("1.0", 5, VISITOR, "", 1.5)
    left = {"wn1": NOTHING, "wn2": NOTHING}
    return Outcome(pilots, tuple(jobs), visit, left, {"wn1": SOMETHING, "wn2": SOMETHING}, 60.0)
