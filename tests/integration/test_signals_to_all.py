"""Batch systems signal every process of the allocation at once, kill them, and delete the directory first."""

from __future__ import annotations

import shutil
import signal

import pytest

from tests.integration import plugins
from tests.integration.conftest import StartPilot
from tests.testbed.user_jobs import Jobs

STUBBORN_JOB = "trap '' TERM INT HUP QUIT USR1; touch ready; while :; do sleep 0.2; done"
ESCAPING_JOB = "setsid sleep 621 & (setsid sh -c 'sleep 622 & sleep 623' &); touch ready; sleep 600"


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGQUIT, 131), (signal.SIGXCPU, 152), (signal.SIGUSR1, 0)],
)
def test_a_signal_to_every_process_of_an_idle_pilot_is_one_to_the_pilot(
    pilot: StartPilot, number: signal.Signals, code: int
) -> None:
    run = pilot(plugins={"bystanders": plugins.PREAMBLE + plugins.BYSTANDERS}).start()
    run.wait_for("pool.joined")
    run.signal_all(number)
    assert run.wait() == code, run.story()
    run.nothing_left()


def test_a_kill_of_everything_two_seconds_after_the_signal_to_everything(pilot: StartPilot, jobs: Jobs) -> None:
    run = pilot({"time": {"vacate_seconds": 20, "teardown_seconds": 40}}).start()
    jobs.shell(STUBBORN_JOB, pilot=run)
    run.job_file("ready")
    run.signal_all(signal.SIGTERM)
    run.host.run(["sleep", "2"])
    run.signal_all(signal.SIGKILL)
    run.wait()
    run.wait_until("the end of all", lambda: not run.processes())
    following = pilot().start()
    following.wait_for("pilot.swept")
    shutil.rmtree(run.outer)
    following.signal(signal.SIGTERM)
    assert following.wait() == 143
    following.nothing_left()


@pytest.mark.parametrize("isolation", ["secrets", "job"])
def test_what_killed_daemons_of_condor_leave_goes_with_the_pilot(pilot: StartPilot, jobs: Jobs, isolation: str) -> None:
    run = pilot({"startd": {"starter_isolation": isolation}}).start()
    jobs.shell(ESCAPING_JOB, pilot=run)
    run.job_file("ready")
    run.signal(signal.SIGKILL, "condor_starter")
    run.wait_until("its end", lambda: not run.process("condor_starter"))
    run.signal(signal.SIGKILL, "condor_startd")
    assert run.wait() == 70, run.story()
    assert run.failure()["code"] == "condor.startd_died"
    assert run.report()["leftovers"] == []
    run.nothing_left()


def test_a_start_directory_that_was_deleted_does_not_keep_the_pilot_from_ending(pilot: StartPilot, jobs: Jobs) -> None:
    run = pilot().start()
    jobs.shell(ESCAPING_JOB, pilot=run)
    run.job_file("ready")
    shutil.rmtree(run.outer, ignore_errors=True)
    run.signal_all(signal.SIGTERM)
    assert run.wait() == 143
    assert not run.processes()
    assert not [mount for mount in run.host.mounts() if run.start_directory in mount.target]
