"""However a pilot ends, it says so, gives its jobs back, and leaves nothing on the node."""

from __future__ import annotations

import signal
from datetime import datetime

import pytest

from tests.integration import plugins
from tests.integration.conftest import StartPilot
from tests.testbed.grid import Grid
from tests.testbed.pilots import PilotRun
from tests.testbed.user_jobs import Jobs, slot_ads

# A job that will not be told: it takes all the patience of the pilot.
STUBBORN_JOB = "trap '' TERM INT HUP QUIT; touch ready; while :; do sleep 0.2; done"
SLEEPING_JOB = "touch ready; sleep 600"
# What a job may leave behind: processes in sessions of their own, and files nobody may write or enter.
MESSY_JOB = (
    "setsid sleep 601 & (setsid sh -c 'sleep 602 & sleep 603' &); mkdir -p a/b; touch a/b/c; chmod 0 a/b a;"
    " ln -s / link; mkfifo pipe; touch /tmp/x /var/tmp/y /dev/shm/z; touch ready; sleep 600"
)


def preempted(run: PilotRun, number: int = signal.SIGTERM) -> None:
    """The pilot ended as one that this signal preempted, and left nothing."""
    assert run.wait() == 128 + number, run.story()
    report = run.report()
    assert report["outcome"]["status"] == "preempted"
    assert report["outcome"]["failure"]["code"] == f"signal.{number}"
    assert report["leftovers"] == []
    run.nothing_left()


@pytest.mark.parametrize("stage", [name for name in plugins.SLOW if name != "configure"])
def test_a_signal_in_a_slow_stage_ends_the_pilot(pilot: StartPilot, stage: str) -> None:
    run = pilot(plugins={"slow": plugins.slow(stage)}).start()
    run.wait_for("stage.started", stage=stage)
    run.wait_until("the slow task", lambda: any("600" in p.argv or "_child" in p.argv for p in run.processes()))
    run.signal(signal.SIGTERM)
    preempted(run)
    finished = [line["stage"] for line in run.report()["timeline"] if line["what"] == "stage"]
    assert stage not in finished or stage == "service"


def test_a_signal_while_a_plugin_is_imported_ends_the_pilot(pilot: StartPilot) -> None:
    run = pilot(plugins={"slow": plugins.slow("configure")}).start()
    run.wait_for("pilot.started")
    run.signal(signal.SIGTERM)
    preempted(run)


@pytest.mark.parametrize("stage", ["container", "benchmark", "advertise", "handoff"])
def test_a_signal_in_a_quick_stage_ends_the_pilot(pilot: StartPilot, stage: str) -> None:
    run = pilot().start()
    run.wait_for("stage.started", stage=stage)
    run.signal(signal.SIGTERM)
    preempted(run)


@pytest.mark.parametrize("milliseconds", [0, 20, 40, 60, 80, 120, 200])
def test_a_signal_before_there_is_a_workspace_ends_the_pilot(pilot: StartPilot, milliseconds: int) -> None:
    run = pilot().start()
    run.wait_until("the guardian", lambda: run.process("run"))
    run.host.run(["sleep", str(milliseconds / 1000)])
    run.signal(signal.SIGTERM)
    code = run.wait()
    # A Python that is just starting has no handler yet: then the signal's own action ends it, as it would any program.
    assert code in (128 + signal.SIGTERM, -signal.SIGTERM), run.story()
    run.nothing_left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGXCPU, signal.SIGQUIT])
def test_a_signal_ends_an_idle_pilot(pilot: StartPilot, grid: Grid, number: signal.Signals) -> None:
    run = pilot(plugins={"bystanders": plugins.PREAMBLE + plugins.BYSTANDERS}).start()
    run.wait_for("pool.joined")
    run.signal(number)
    preempted(run, number)
    assert slot_ads(grid, run) == []


@pytest.mark.parametrize("host", ["wn1", "wn2"])
def test_a_signal_gives_a_running_job_back_and_the_next_pilot_runs_it(pilot: StartPilot, jobs: Jobs, host: str) -> None:
    named = {"startd": {"attributes": {"PilotTestRun": f"rerun-{host}"}}}
    job = jobs.shell("sleep 5; exit 4", pilot=f"rerun-{host}")
    first = pilot(named, host=host).start()
    job.wait_running()
    first.signal(signal.SIGTERM)
    preempted(first)
    assert first.report()["jobs"]["started"] == 1
    second = pilot(named, host=host).start()
    job.wait_evicted().wait_done()
    assert job.events(1) == 2
    assert job.exit_codes() == [4]
    second.signal(signal.SIGTERM)
    preempted(second)


def test_a_job_that_ignores_signals_gets_its_time_and_no_more(pilot: StartPilot, jobs: Jobs) -> None:
    run = pilot({"time": {"vacate_seconds": 1}}).start()
    job = jobs.shell(STUBBORN_JOB, pilot=run)
    run.job_file("ready")
    run.signal(signal.SIGTERM)
    preempted(run)
    job.wait_evicted()


def test_what_a_job_left_behind_is_removed(pilot: StartPilot, jobs: Jobs) -> None:
    run = pilot().start()
    job = jobs.shell(MESSY_JOB, pilot=run)
    run.job_file("ready")
    run.signal(signal.SIGTERM)
    preempted(run)
    job.wait_evicted()


def test_a_second_signal_hastens_the_end(pilot: StartPilot, jobs: Jobs) -> None:
    run = pilot({"time": {"vacate_seconds": 20, "teardown_seconds": 30}}).start()
    jobs.shell(STUBBORN_JOB, pilot=run)
    run.job_file("ready")
    run.signal(signal.SIGTERM)
    run.wait_for("pilot.ending")
    run.signal(signal.SIGQUIT)
    preempted(run)


def test_a_signal_to_every_process_at_once_ends_the_pilot(pilot: StartPilot, jobs: Jobs) -> None:
    run = pilot(plugins={"bystanders": plugins.PREAMBLE + plugins.BYSTANDERS}).start()
    job = jobs.shell(SLEEPING_JOB, pilot=run)
    run.job_file("ready")
    run.signal_all(signal.SIGTERM)
    preempted(run)
    job.wait_evicted()


def test_a_signal_to_every_process_of_an_idle_pilot_ends_it(pilot: StartPilot) -> None:
    run = pilot().start()
    run.wait_for("pool.joined")
    run.signal_all(signal.SIGTERM)
    preempted(run)


def test_a_signal_to_every_process_of_a_probing_pilot_ends_it(pilot: StartPilot) -> None:
    run = pilot(plugins={"stubborn": plugins.PREAMBLE + plugins.STUBBORN_PROBE}).start()
    run.wait_until("the stubborn child", lambda: run.process("sh"))
    run.signal_all(signal.SIGTERM)
    preempted(run)


@pytest.mark.parametrize("host", ["wn1", "wn2"])
def test_a_kill_two_seconds_after_the_signal_leaves_nothing(pilot: StartPilot, jobs: Jobs, host: str) -> None:
    run = pilot({"time": {"vacate_seconds": 20, "teardown_seconds": 40}}, host=host).start()
    jobs.shell(STUBBORN_JOB, pilot=run)
    run.job_file("ready")
    run.signal(signal.SIGTERM)
    run.host.run(["sleep", "2"])
    run.signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    # The keeper goes on alone, and takes the job no further time.
    run.nothing_left(seconds=20)
    assert run.report()["outcome"]["status"] == "preempted"


def test_a_kill_two_seconds_after_the_signal_leaves_nothing_of_a_probing_pilot(pilot: StartPilot) -> None:
    run = pilot(plugins={"stubborn": plugins.PREAMBLE + plugins.STUBBORN_PROBE}).start()
    run.wait_until("the stubborn child", lambda: run.process("sh"))
    run.signal(signal.SIGTERM)
    run.host.run(["sleep", "2"])
    run.signal(signal.SIGKILL)
    assert run.wait() in (-signal.SIGKILL, 128 + signal.SIGTERM)
    run.nothing_left(seconds=20)


def test_nothing_is_left_when_the_guardian_is_killed(pilot: StartPilot, jobs: Jobs) -> None:
    run = pilot(plugins={"bystanders": plugins.PREAMBLE + plugins.BYSTANDERS}).start()
    jobs.shell(SLEEPING_JOB, pilot=run)
    run.job_file("ready")
    run.signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    run.nothing_left(seconds=20)
    assert run.report()["outcome"]["status"] == "preempted"
    assert run.failure()["code"] == "guardian.gone"


def test_nothing_is_left_when_the_guardian_of_a_probing_pilot_is_killed(pilot: StartPilot) -> None:
    run = pilot(plugins={"stubborn": plugins.PREAMBLE + plugins.STUBBORN_PROBE}).start()
    run.wait_until("the stubborn child", lambda: run.process("sh"))
    run.signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    run.nothing_left(seconds=20)
    assert run.failure()["code"] == "guardian.gone"


def test_nothing_is_left_when_the_pipeline_is_killed(pilot: StartPilot) -> None:
    run = pilot(plugins={"stubborn": plugins.PREAMBLE + plugins.STUBBORN_PROBE}).start()
    run.wait_until("the stubborn child", lambda: run.process("sh"))
    run.signal(signal.SIGKILL, "_pipeline")
    assert run.wait() == 70, run.story()
    assert run.failure()["code"] == "pipeline.killed"
    assert run.report()["outcome"]["status"] == "failed"
    run.nothing_left()


@pytest.mark.parametrize("host", ["wn1", "wn2"])
def test_nothing_is_left_when_the_keeper_is_killed(pilot: StartPilot, jobs: Jobs, host: str) -> None:
    run = pilot(plugins={"bystanders": plugins.PREAMBLE + plugins.BYSTANDERS}, host=host).start()
    job = jobs.shell(SLEEPING_JOB, pilot=run)
    run.job_file("ready")
    run.signal(signal.SIGKILL, "_keeper")
    assert run.wait() == 70, run.story()
    assert run.failure()["code"] == "keeper.killed"
    run.nothing_left()
    job.wait_evicted()


def test_nothing_is_left_when_condor_master_is_killed(pilot: StartPilot, jobs: Jobs) -> None:
    run = pilot(plugins={"bystanders": plugins.PREAMBLE + plugins.BYSTANDERS}).start()
    jobs.shell(SLEEPING_JOB, pilot=run)
    run.job_file("ready")
    run.signal(signal.SIGKILL, "condor_master")
    assert run.wait() == 70, run.story()
    assert run.failure()["code"] == "condor.master_died"
    run.nothing_left()


def test_a_condor_master_that_somebody_else_told_to_end_is_no_planned_end(pilot: StartPilot, jobs: Jobs) -> None:
    run = pilot().start()
    job = jobs.shell(SLEEPING_JOB, pilot=run)
    run.job_file("ready")
    run.signal(signal.SIGTERM, "condor_master")
    assert run.wait() == 143, run.story()
    assert run.report()["outcome"]["status"] == "preempted"
    assert run.failure()["code"] == "condor.told_to_end"
    job.wait_evicted()
    run.nothing_left()


def test_a_pilot_whose_time_is_over_leaves_with_success(pilot: StartPilot, jobs: Jobs) -> None:
    # The last job is ended 15 s before the end, and for 10 s before that none begins.
    times = {"margin_seconds": 10, "teardown_seconds": 5, "spread_seconds": 0, "retirement_seconds": 10}
    run = pilot({"time": times | {"walltime_seconds": 50, "minimum_seconds": 0}}).start()
    job = jobs.shell(SLEEPING_JOB, pilot=run, extra="+MaxRuntime = 600")
    assert run.wait() == 0, run.story()
    run.nothing_left()
    assert run.report()["jobs"]["started"] == 0
    assert job.events(1) == 0


def test_a_service_that_is_needed_and_dies_ends_the_pilot(pilot: StartPilot) -> None:
    run = pilot(plugins={"bystanders": plugins.PREAMBLE + plugins.BYSTANDERS}).start()
    run.joined()
    run.host.run(["pkill", "-KILL", "-f", "trap 'exit 0' TERM; while"])
    assert run.wait() == 69, run.story()
    assert run.failure()["code"] == "service.died"
    run.nothing_left()


def test_the_next_pilot_is_not_disturbed_by_one_beside_it(pilot: StartPilot, jobs: Jobs) -> None:
    first, second = pilot().start(), pilot().start()
    job = jobs.shell("sleep 3", pilot=second).wait_running()
    first.signal(signal.SIGTERM)
    assert first.wait() == 143
    job.wait_done()
    assert second.running
    second.signal(signal.SIGTERM)
    preempted(second)


def test_a_job_is_told_of_the_end_and_may_finish(pilot: StartPilot, jobs: Jobs) -> None:
    run = pilot({"time": {"vacate_seconds": 10}}).start()
    job = jobs.shell("trap 'touch told; exit 7' TERM; touch ready; while :; do sleep 0.1; done", pilot=run)
    run.job_file("ready")
    run.signal(signal.SIGTERM)
    preempted(run)
    assert job.wait_evicted().events(1) == 1


def test_a_busy_pilot_with_deaf_jobs_keeps_its_budget(pilot: StartPilot, jobs: Jobs) -> None:
    budget = 15.0
    beside = {"files": plugins.PREAMBLE + plugins.FUSE, "bystanders": plugins.PREAMBLE + plugins.BYSTANDERS}
    run = pilot({"time": {"vacate_seconds": budget, "teardown_seconds": budget}}, plugins=beside).start()
    jobs.shell(STUBBORN_JOB, pilot=run, count=2).wait_running()
    run.job_file("ready")
    assert [mount for mount in run.host.mounts() if run.start_directory in mount.target]
    run.signal(signal.SIGTERM)
    preempted(run)
    began = next(event["seconds"] for event in run.events() if event["event"] == "pilot.ending")
    report = run.report()["pilot"]
    assert moment(report["finished"]) - moment(report["started"]) - began <= budget


def moment(text: str) -> float:
    """Seconds since the epoch of a time in a report."""
    return datetime.fromisoformat(text).timestamp()
