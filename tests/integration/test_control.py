"""People talk to a running pilot: status, drain and stop by command and by signal, in every stage."""

from __future__ import annotations

import json
import signal
import time
from functools import partial
from typing import Any

import pytest

from tests.integration import plugins
from tests.integration.conftest import StartPilot
from tests.testbed.grid import Grid
from tests.testbed.pilots import PilotRun
from tests.testbed.user_jobs import Jobs, slot_ads


def status(run: PilotRun, *words: str) -> Any:
    """What `pilot-agent status --json` prints for the pilot's start directory."""
    done = run.call("status", "--json", *(words or (run.start_directory,)))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def joined(run: PilotRun) -> PilotRun:
    """The pilot, in its pool."""
    run.wait_for("pool.joined")
    return run


@pytest.mark.parametrize("stage", list(plugins.SLOW))
def test_the_status_is_there_in_every_stage_and_stop_ends_it(pilot: StartPilot, stage: str) -> None:
    run = pilot(plugins={"slow": plugins.slow(stage)}).start()
    run.wait_for(*(["pilot.started"] if stage == "configure" else ["stage.started"]), **(
        {} if stage == "configure" else {"stage": stage}
    ))  # fmt: skip
    run.wait_until("the status", lambda: status(run)["stage"] == stage)
    assert status(run)["jobs_running"] == 0
    done = run.call("stop")
    assert done.returncode == 0, done.stderr
    assert run.wait() == 143, run.story()
    run.nothing_left()


@pytest.mark.parametrize("stage", [name for name in plugins.SLOW if name not in ("configure", "service")])
def test_a_pilot_that_drains_before_it_has_jobs_ends_after_its_stage(pilot: StartPilot, stage: str) -> None:
    quick = plugins.slow(stage).replace("600", "3")
    run = pilot(plugins={"slow": quick}).start()
    run.wait_for("stage.started", stage=stage)
    assert run.call("drain").returncode == 0
    assert run.wait() == 0, run.story()
    assert run.report()["outcome"]["status"] == "ok"
    assert not [event for event in run.events() if event["event"] == "condor.started"]
    run.nothing_left()


@pytest.mark.parametrize("way", ["command", "signal"])
def test_draining_lets_the_running_job_end_and_takes_no_other(
    grid: Grid, pilot: StartPilot, jobs: Jobs, way: str
) -> None:
    run = joined(pilot().start())
    first = jobs.shell("touch ready; sleep 30; exit 7", pilot=run).wait_running()
    run.job_file("ready")
    if way == "command":
        done = run.call("drain", run.start_directory)
        assert "1 job running" in done.stdout, done.stderr
    else:
        run.signal(signal.SIGUSR1)
    run.wait_until("draining", lambda: status(run)["stage"] == "drain")
    # Before the startd has been told, a job that the pool sends may still begin.
    ads = partial(slot_ads, grid, run, "PartitionableSlot")
    run.wait_until("the startd refuses jobs", lambda: any(ad.get("PilotAccepting") is False for ad in ads()))
    second = jobs.shell("true", pilot=run)
    assert status(run)["jobs_running"] == 1
    first.wait_done()
    assert run.wait() == 0, run.story()
    assert first.exit_codes() == [7]
    assert first.events(1) == 1
    assert second.events(1) == 0
    report = run.report()
    assert report["outcome"] == {"status": "ok", "failure": None}
    assert report["jobs"]["ended"] == {"exit 7": 1}
    run.nothing_left()


def test_jobs_that_wait_for_a_claimed_slot_do_not_follow_while_it_drains(pilot: StartPilot, jobs: Jobs) -> None:
    """The schedd would send the next job of the same user over the claim it has, without asking the negotiator."""
    run = joined(pilot().start())
    queued = 16
    many = jobs.shell("sleep 12", pilot=run, count=queued)
    run.wait_until("jobs run", lambda: many.events(1) > 0)
    run.signal(signal.SIGUSR1)
    run.wait_until("draining", lambda: status(run)["not_accepting"] == ["draining"])
    begun = many.events(1)
    assert begun < queued
    assert run.wait() == 0, run.story()
    assert many.events(1) == many.events(5), "every job that began has ended here by itself"
    assert many.events(1) < queued
    run.nothing_left()


def test_the_page_and_the_list_are_for_people(pilot: StartPilot) -> None:
    first, second = joined(pilot().start()), joined(pilot().start())
    page = first.call("status", first.start_directory).stdout
    assert "Stage" in page
    assert "condor.started" in page
    for label, words in (("HTCondor", "23."), ("Slots", "1 slot: "), ("End", "no limit is known")):
        assert any(line.split()[:1] == [label] and words in line for line in page.splitlines()), page
    assert status(first)["startd"]["slots"][0]["count"] == 1
    assert status(first)["condor"]["version"]
    assert "summary" in status(first)["time"]
    overview = first.call("status").stdout
    assert {"PILOT", "STAGE", "DIRECTORY"} <= set(overview.split())
    assert {one["output"] for one in status(first, "--json")} == {first.start_directory, second.start_directory}
    refused = first.host.run(first.command("stop"), user=first.user, cwd="/")
    assert refused.returncode == 2
    assert "name one of them" in refused.stderr
    for run in (first, second):
        assert run.workspace is not None
        assert run.call("stop", f"{run.start_directory}/{run.workspace.name}").returncode == 0
        assert run.wait() == 143
    second.nothing_left()


def test_without_a_pilot_the_commands_say_so(pilot: StartPilot) -> None:
    run = pilot()
    assert run.call("status").stdout == "No pilot of this account runs on this node.\n"
    for command in ("status", "drain", "stop"):
        done = run.call(command, run.start_directory)
        assert done.returncode == 2
        assert f"no pilot runs in {run.start_directory}" in done.stderr


def test_usr2_and_hup_leave_the_pilot_alone(pilot: StartPilot, jobs: Jobs) -> None:
    run = joined(pilot().start())
    job = jobs.shell("sleep 5", pilot=run).wait_running()
    run.signal(signal.SIGUSR2)
    assert run.wait_for("pilot.status")["stage"] == "run"
    assert "stage run" in run.stderr
    run.signal(signal.SIGHUP)
    assert run.wait_for("token.unchanged")
    job.wait_done()
    run.signal(signal.SIGQUIT)
    assert run.wait() == 128 + signal.SIGQUIT
    run.nothing_left()


def test_a_suspended_pilot_goes_on_and_reports_it(pilot: StartPilot, jobs: Jobs) -> None:
    run = joined(pilot().start())
    job = jobs.shell("touch ready; sleep 25; exit 3", pilot=run).wait_running()
    run.job_file("ready")
    run.signal_all(signal.SIGSTOP)
    time.sleep(12)
    run.signal_all(signal.SIGCONT)
    run.door.send_signal(signal.SIGCONT)  # nsenter stops itself when its child is stopped
    assert run.wait_for("pilot.suspended")["suspended_seconds"] > 3
    job.wait_done()
    assert job.exit_codes() == [3]
    run.signal(signal.SIGTERM)
    assert run.wait() == 143
    assert [line for line in run.report()["timeline"] if line["what"] == "suspended"]
    run.nothing_left()


@pytest.mark.parametrize("host", ["wn1", "wn2"])
def test_a_job_cannot_reach_the_socket(pilot: StartPilot, jobs: Jobs, host: str) -> None:
    run = joined(pilot(host=host).start())
    script = "find / -xdev -name control.sock 2>/dev/null; ls -d /proc/*/fd/*/control.sock 2>/dev/null; true"
    job = jobs.shell(script, pilot=run).wait_done()
    assert job.output() == ""
    run.signal(signal.SIGTERM)
    assert run.wait() == 143
