"""A pilot that is cut after every stage and goes on in a new process is the same pilot."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.integration import plugins
from tests.integration.conftest import StartPilot
from tests.integration.test_pilot_plugins import GOOD
from tests.testbed.pilots import PilotRun
from tests.testbed.user_jobs import Jobs

STAGES = ("probe", "mount", "setup_early", "container", "validate", "setup_late", "service", "benchmark", "advertise")
# What differs between any two looks at a live node, or says when something was.
CHANGING = (
    "available_mib",
    "collector_offset_seconds",
    "workspace_free_mib",
    "candidates",
    "refused",
    "shm_mib",
    "uptime_seconds",
    "hugepages",
)
OWN = ("PilotId", "PilotTestRun", "GLIDEIN_PARENT_PID", "GLIDEIN_START_TIME")


def _life(run: PilotRun, jobs: Jobs) -> dict[str, Any]:
    """Run a pilot with one job to its end by a signal; its report."""
    run.start()
    job = jobs.shell("echo $GOOD_SETUP", pilot=run).wait_done()
    assert job.output().split() == ["early"]
    run.signal(signal.SIGTERM)
    assert run.wait() == 143, run.story()
    run.nothing_left()
    return run.report()


def _decisions(report: dict[str, Any]) -> dict[str, Any]:
    """What must be the same in both reports."""
    node = {
        f"{group}.{name}": (_untimed(fact["value"]), fact["unit"], fact["status"], fact["source"], fact["where"])
        for group, facts in report["node"].items()
        for name, fact in facts.items()
        if name not in CHANGING
    }
    container = dict(report["container"])
    container["why"] = [{key: why[key] for key in ("candidate", "taken", "proven")} for why in container["why"]]
    ad = {name: value for name, value in report["ad"].items() if name not in OWN and not isinstance(value, float)}
    return {
        "node": node,
        "container": container,
        # In the order in which they ended.
        "checks": sorted(report["checks"], key=lambda check: str(check["name"])),
        "services": [(service["name"], service["status"], service["attributes"]) for service in report["services"]],
        "benchmarks": [score["name"] for score in report["benchmarks"]],
        "plugins": [(plugin["name"], plugin["hooks"]) for plugin in report["plugins"]],
        "ad": ad,
        "jobs": report["jobs"]["started"],
        "stages": [line["stage"] for line in report["timeline"] if line["what"] == "stage"],
        "tasks": sorted((line["stage"], line["plugin"], line["what"], line["status"]) for line in report["timeline"]),
        "outcome": report["outcome"],
    }


def _untimed(value: Any) -> Any:
    """The value without the times that the look itself took, such as an endpoint's answer."""
    if isinstance(value, dict):
        return {key: _untimed(member) for key, member in value.items() if key != "milliseconds"}
    return [_untimed(member) for member in value] if isinstance(value, list) else value


def _differences(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Only what is not the same, by its path: two whole reports are too long to read."""
    found: dict[str, Any] = {}
    for name in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(name), theirs.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            found.update({f"{name}/{path}": pair for path, pair in _differences(one, other).items()})
        elif one != other:
            found[name] = (one, other)
    return found


@pytest.mark.parametrize("host", ["wn1", "wn2"])
def test_cutting_after_every_stage_changes_nothing(pilot: StartPilot, jobs: Jobs, host: str) -> None:
    good = {"good": plugins.PREAMBLE + GOOD}
    whole = _life(pilot(plugins=good, host=host), jobs)
    cut_run = pilot(plugins=good, host=host, arguments=["--cut-after", "every"])
    cut = _life(cut_run, jobs)
    assert _differences(_decisions(cut), _decisions(whole)) == {}
    resumed = [event["finished"] for event in cut_run.events() if event["event"] == "pilot.resumed"]
    assert resumed == [list(STAGES[: number + 1]) for number in range(len(STAGES))]


def test_a_signal_after_a_cut_undoes_what_was_made_before_it(pilot: StartPilot) -> None:
    sources = {"good": plugins.PREAMBLE + GOOD, "slow": plugins.slow("benchmark")}
    run = pilot(plugins=sources, arguments=["--cut-after", "service"]).start()
    run.wait_for("stage.started", stage="benchmark")
    run.signal(signal.SIGTERM)
    assert run.wait() == 143, run.story()
    assert run.report()["services"][0]["status"] == "ready"
    run.nothing_left()


def test_a_signal_at_any_moment_of_a_cut_is_not_lost(pilot: StartPilot) -> None:
    for stage in ("probe", "container", "validate"):
        run = pilot(arguments=["--cut-after", "every"]).start()
        run.wait_for("stage.finished", stage=stage)
        run.signal(signal.SIGTERM)
        assert run.wait() == 143, run.story()
        assert run.failure()["code"] == "signal.15"
        run.nothing_left()


def test_resuming_what_is_no_workspace_is_refused(pilot: StartPilot) -> None:
    run = pilot()
    run.arguments = ["--resume", run.start_directory]
    assert run.run() == 2, run.story()
    assert "resumed" in run.stderr
    run.nothing_left()
