"""A pilot that failed holds its slot, says so to its pool meanwhile, and leaves its report on standard output."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import pilot_agent
from pilot_agent.output.printed import find_printed
from tests.integration import plugins
from tests.integration.conftest import StartPilot
from tests.testbed.grid import Grid
from tests.testbed.pilots import PilotRun

SCHEMA = json.loads(Path(pilot_agent.__file__).with_name("report.schema.json").read_text(encoding="utf-8"))
HELD = {"on_failure": {"hold_seconds": 3600}, "site": {"containers": "never"}, "images": {}}
TOO_MUCH = HELD | {"requirements": ["cpu.usable >= 1000"]}
NO_HTCONDOR = {"startd": {"condor_directory": "/nowhere", "condor_source": ["directory"]}}
NOWHERE = {"pool": {"collectors": ["10.77.0.99:9618"], "token": "{start}/pool.token", "join_seconds": 5}}


def failed_ads(grid: Grid, run: PilotRun) -> list[dict[str, Any]]:
    """What the pool knows of failed pilots of this run."""
    workspace = run.workspace
    name = workspace.name if workspace is not None else f"pilot-{run.report()['pilot']['id']}"
    done = grid.pool.run(["condor_status", "-json", "-constraint", f'GLIDEIN_Failed && Name == "{name}"'])
    ads: list[dict[str, Any]] = json.loads(done.stdout) if done.stdout.strip() else []
    return ads


def printed(run: PilotRun) -> dict[str, Any]:
    """The report on standard output, which must be there, whole and valid."""
    (found,) = find_printed(run.stdout)
    assert found.problem == ""
    assert found.report is not None
    jsonschema.validate(found.report, SCHEMA)
    report: dict[str, Any] = found.report
    return report


def obituaries(run: PilotRun) -> list[str]:
    return [event["event"] for event in run.events() if event["event"].startswith("obituary.")]


def held(run: PilotRun) -> PilotRun:
    """Wait until the end was published and the slot is held."""
    run.wait_until("report", (run.outer / "report.json").exists)
    return run


@pytest.mark.parametrize("how", ["signal", "drain"])
def test_a_pilot_that_refused_its_node_is_a_failed_one_in_its_pool_while_it_holds_the_slot(
    grid: Grid, pilot: StartPilot, how: str
) -> None:
    run = held(
        pilot(TOO_MUCH | {"site": {"name": "Testbed", "containers": "never"}, "entry": {"name": "queue"}}).start()
    )
    (ad,) = run.wait_until("ad of the failed pilot", lambda: failed_ads(grid, run))
    failure = run.failure()
    assert ad["PilotFailureKind"] == failure["kind"] == "node_resource"
    assert ad["PilotFailureCode"] == failure["code"]
    assert ad["PilotFailureMessage"] == ad["GLIDEIN_FAILURE_REASON"] == failure["message"]
    assert (ad["GLIDEIN_EXIT_CODE"], ad["State"], ad["START"]) == (64, "Drained", False)
    assert (ad["IS_GLIDEIN"], ad["GLIDEIN_Site"], ad["GLIDEIN_Entry_Name"]) == (True, "Testbed", "queue")
    assert ad["PilotId"] == run.report()["pilot"]["id"]
    assert ad["GLIDEIN_ToDie"] - ad["LastHeardFrom"] > 3000
    shown = grid.pool.run(["condor_status", "-constraint", "GLIDEIN_Failed"]).stdout
    assert ad["Name"] in shown
    assert "[????]" not in shown
    run.wait_until("word of it in the events that came home", lambda: obituaries(run) == ["obituary.sent"])
    run.signal(signal.SIGTERM if how == "signal" else signal.SIGUSR1)
    assert run.wait() == 64, run.story()
    run.wait_until("end of the ad", lambda: not failed_ads(grid, run))
    assert obituaries(run) == ["obituary.sent", "obituary.withdrawn"]
    assert printed(run)["outcome"]["failure"] == failure
    run.nothing_left()


@pytest.mark.parametrize("to", ["the guardian", "all of its processes"])
def test_a_drain_ends_the_hold_of_a_pilot_that_never_had_a_workspace(pilot: StartPilot, to: str) -> None:
    """Its configuration cannot be read, so it holds the slot as long as any failed pilot of a batch job."""
    run = held(pilot({"no_such_key": 1}, environment={"SLURM_JOB_ID": "4711"}).start())
    if to == "the guardian":
        run.signal(signal.SIGUSR1)
    else:
        run.signal_all(signal.SIGUSR1)
    assert run.wait() == 66, run.story()
    assert run.failure()["code"] == "config.invalid"
    run.nothing_left()


def test_a_pilot_that_fails_after_the_hand_off_says_so_too(grid: Grid, pilot: StartPilot) -> None:
    run = pilot(HELD, plugins={"bystanders": plugins.PREAMBLE + plugins.BYSTANDERS}).start()
    run.joined()
    run.host.run(["pkill", "-KILL", "-f", "trap 'exit 0' TERM; while"])
    held(run)
    (ad,) = run.wait_until("ad of the failed pilot", lambda: failed_ads(grid, run))
    assert (ad["PilotFailureKind"], ad["PilotFailureCode"], ad["GLIDEIN_EXIT_CODE"]) == ("plugin", "service.died", 69)
    run.signal(signal.SIGTERM)
    assert run.wait() == 69, run.story()
    run.wait_until("end of the ad", lambda: not failed_ads(grid, run))
    assert printed(run)["outcome"]["failure"]["code"] == "service.died"
    run.nothing_left()


@pytest.mark.parametrize(
    ("changes", "token", "reason"),
    [
        (TOO_MUCH, None, "no token for the pool"),
        (TOO_MUCH | NOWHERE, "good", "failed to send"),
        (TOO_MUCH | NO_HTCONDOR, "good", "no HTCondor on this node"),
    ],
    ids=["no token", "no collector", "no HTCondor"],
)
def test_where_the_pool_cannot_be_told_that_is_in_the_events_and_nothing_else_happens(
    pilot: StartPilot, good_token: str, changes: dict[str, Any], token: str | None, reason: str
) -> None:
    run = held(pilot(changes, token=token and good_token).start())
    run.wait_until("word of it", lambda: "obituary.not_sent" in obituaries(run))
    said = [event["message"] for event in run.events() if event["event"] == "obituary.not_sent"]
    assert reason in said[0]
    run.signal(signal.SIGTERM)
    assert run.wait() in (64, 67), run.story()
    assert "obituary.withdrawn" not in obituaries(run)
    run.nothing_left()


def test_a_wrong_configuration_leaves_a_report_on_standard_output(pilot: StartPilot) -> None:
    run = pilot({"sight": {"name": "x"}})
    assert run.run() == 66, run.story()
    assert printed(run)["outcome"]["failure"]["code"] == "config.invalid"


def test_a_missing_credential_leaves_a_report_on_standard_output(pilot: StartPilot) -> None:
    run = pilot({"site": {"containers": "never"}, "images": {}}, token=None)
    assert run.run() == 67, run.story()
    assert printed(run) == run.report()


@pytest.mark.parametrize("role", ["_pipeline", "_keeper"])
def test_the_guardian_prints_the_report_of_a_pilot_that_was_killed(pilot: StartPilot, role: str) -> None:
    changes = {"site": {"containers": "never"}, "images": {}}
    run = pilot(changes, plugins={"slow": plugins.slow("service")} if role == "_pipeline" else None).start()
    if role == "_pipeline":
        run.wait_for("stage.started", stage="service")
    else:
        run.joined()
    run.signal(signal.SIGKILL, role)
    assert run.wait() == 70, run.story()
    assert printed(run)["outcome"]["failure"]["code"] == f"{role.removeprefix('_')}.killed"
    run.nothing_left()


def test_a_report_that_is_not_wanted_there_is_not_printed(pilot: StartPilot) -> None:
    run = pilot(TOO_MUCH | {"on_failure": {"hold_seconds": 0}, "upload": {"print_report": False}})
    assert run.run() == 64, run.story()
    assert find_printed(run.stdout) == []
