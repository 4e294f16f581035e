"""A pilot's time under real HTCondor and Slurm: it ends before the first limit, and takes no job that could not end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.conftest import BUILT, StartPilot
from tests.testbed.grid import Grid
from tests.testbed.pilots import PilotRun, install_payload
from tests.testbed.runs import run_directory
from tests.testbed.slurm import SlurmCluster
from tests.testbed.user_jobs import Job, Jobs, slot_ads

SHORT = {"margin_seconds": 10, "teardown_seconds": 10, "spread_seconds": 0, "minimum_seconds": 5}
"""Times with which a pilot can live for a minute."""
NO_CONTAINERS = {"site": {"containers": "never"}, "images": {}}
SlurmPilot = Callable[..., PilotRun]


@pytest.fixture(scope="module")
def slurm(grid: Grid) -> Iterator[SlurmCluster]:
    """A Slurm beside the grid, whose node reaches the user pool and has HTCondor."""
    with run_directory() as directory, SlurmCluster(directory, beside=grid) as cluster:
        install_payload(cluster.host, BUILT)
        yield cluster


@pytest.fixture
def slurm_pilot(slurm: SlurmCluster, good_token: str) -> Iterator[SlurmPilot]:
    """Makes pilots that run in Slurm jobs of so many minutes."""
    made: list[PilotRun] = []

    def make(minutes: int, changes: dict[str, Any]) -> PilotRun:
        job = ("srun", "--ntasks=1", "--mem=900", f"--time={minutes}")
        made.append(PilotRun(slurm.host, good_token, NO_CONTAINERS | changes, wrapper=job))
        return made[-1]

    yield make
    for run in made:
        run.destroy()


def slurm_job(cluster: SlurmCluster, run: PilotRun) -> dict[str, str]:
    """What Slurm says of the job of a pilot that ended."""
    number = run.report()["node"]["batch"]["job_id"]["value"]
    told = cluster.host.run(["scontrol", "--oneliner", "show", "job", str(number)]).stdout
    return dict(re.findall(r"(\w+)=(\S*)", told))


def long_job(jobs: Jobs, run: PilotRun, declared: str) -> Job:
    return jobs.shell("sleep 600", pilot=run, extra=declared)


def in_the_pool(grid: Grid, run: PilotRun) -> dict[str, Any]:
    """The ad of the pilot's slot, once the pool knows its end."""
    wanted = "PartitionableSlot && GLIDEIN_ToDie isnt undefined"
    ads: list[dict[str, Any]] = run.wait_until("its slot in the pool", lambda: slot_ads(grid, run, wanted))
    return ads[0]


def test_a_pilot_in_a_slurm_job_ends_by_itself_and_takes_only_jobs_that_can_end(
    grid: Grid, slurm: SlurmCluster, slurm_pilot: SlurmPilot, jobs: Jobs
) -> None:
    run = slurm_pilot(2, {"time": SHORT | {"retirement_seconds": 20}}).start()
    long = [long_job(jobs, run, "+MaxWallTimeMins = 60"), long_job(jobs, run, "+JOB_EXPECTED_MAX_LIFETIME = 3600")]
    short = jobs.shell("sleep 1", pilot=run, extra="+MaxRuntime = 15")
    ad = in_the_pool(grid, run)
    short.wait_done()
    assert run.wait(120) == 0, run.story()
    ended = time.time()
    decided = run.report()["time"]
    end = run.report()["node"]["batch"]["end_time"]["value"]
    assert (decided["decided"]["source"], decided["decided"]["ends"]) == ("SLURM_JOB_END_TIME", end)
    assert (
        (ad["GLIDEIN_ToDie"], ad["GLIDEIN_ToRetire"])
        == (end - 20, end - 40)
        == (
            decided["to_die"],
            decided["to_retire"],
        )
    )
    assert end - 40 <= ended <= end - 10
    assert [job.events(1) for job in long] == [0, 0]
    assert run.report()["jobs"]["ended"] == {"exit 0": 1}
    told = slurm_job(slurm, run)
    assert (told["JobState"], told["ExitCode"]) == ("COMPLETED", "0:0")
    assert [event["event"] for event in run.events() if event["event"].startswith("pilot.retir")] == [
        "pilot.retiring",
        "pilot.retired",
    ]


def test_a_pilot_with_too_little_time_leaves_at_once_and_says_why(slurm_pilot: SlurmPilot) -> None:
    """Also without a configured time for holding the slot, which is 20 minutes under a batch system."""
    run = slurm_pilot(3, {"on_failure": {"hold_seconds": None}})
    assert run.run() == 66, run.story()
    failure = run.failure()
    assert (failure["kind"], failure["code"]) == ("config", "time.too_short")
    assert "SLURM_JOB_END_TIME" in failure["message"]
    assert "600 s are needed" in failure["message"]
    assert "--time" in failure["hint"]
    assert failure["message"] in run.stderr
    stages = [line["stage"] for line in run.report()["timeline"] if line["what"] == "stage"]
    assert stages == ["probe"]


def test_the_configured_time_is_counted_from_the_start_of_the_slurm_job(slurm: SlurmCluster, good_token: str) -> None:
    """A pilot that begins late in its batch job has less of it."""
    run = PilotRun(
        slurm.host,
        good_token,
        NO_CONTAINERS | {"time": {"walltime_seconds": 640, "minimum_seconds": 510, "retirement_seconds": 60}},
        wrapper=("srun", "--ntasks=1", "--mem=900", "--time=30", "sh", "-c", 'sleep 20; exec "$@"', "late"),
    )
    try:
        assert run.run() == 66, run.story()
        assert run.failure()["code"] == "time.too_short"
        assert "SLURM_JOB_START_TIME + time.walltime_seconds" in run.failure()["message"]
    finally:
        run.destroy()


def test_a_job_that_is_too_long_for_the_time_left_is_not_started_on_a_claim_that_is_there(
    pilot: StartPilot, jobs: Jobs
) -> None:
    """The access point keeps the slot for the next job of the same user, here a longer one."""
    run = pilot({"time": SHORT | {"walltime_seconds": 300}}).start()
    first = jobs.shell("touch ready; sleep 8", pilot=run, extra="+MaxRuntime = 20").wait_running()
    second = long_job(jobs, run, "+MaxRuntime = 400")
    third = jobs.shell("true", pilot=run, extra="+MaxRuntime = 10")
    first.wait_done()
    third.wait_done()
    assert second.events(1) == 0


def test_a_job_that_runs_on_is_ended_before_the_limit(pilot: StartPilot, jobs: Jobs) -> None:
    began = time.time()
    run = pilot({"time": SHORT | {"walltime_seconds": 70, "retirement_seconds": 20, "vacate_seconds": 2}}).start()
    job = jobs.shell("trap '' TERM; touch ready; while :; do sleep 0.2; done", pilot=run).wait_running()
    assert run.wait(90) == 143, run.story()
    assert time.time() - began < 70 - 10
    assert run.failure()["code"] == "deadline.reached"
    job.wait_evicted()
    run.nothing_left()


def test_an_end_that_the_site_announces_while_the_pilot_runs_counts(grid: Grid, pilot: StartPilot, jobs: Jobs) -> None:
    times = SHORT | {"announcements_period_seconds": 2, "retirement_seconds": 10}
    run = pilot({"time": times | {"walltime_seconds": 3000}}, environment={"MACHINEFEATURES": "/home/pilot/features"})
    features = run.outer.parent / "features"
    features.mkdir()
    try:
        (features / "total_cpu").write_text("8\n", encoding="utf-8")
        run.start()
        assert in_the_pool(grid, run)["MJF_MACHINE_TOTAL_CPU"] == 8
        end = int(time.time()) + 60
        (features / "shutdowntime").write_text(f"{end}\n", encoding="utf-8")
        run.wait_for("time.shortened", end=end)
        # The pool's copy of the ad is minutes old; the startd judges by its own, which jobs get.
        look = "grep ^GLIDEIN_ToDie .machine.ad"
        run.wait_until(
            "the new end in the startd's ad",
            lambda: str(end - 20) in jobs.shell(look, pilot=run, extra="+MaxRuntime = 5").wait_done().output(),
        )
        long = long_job(jobs, run, "+MaxRuntime = 300")
        jobs.shell("true", pilot=run, extra="+MaxRuntime = 5").wait_done()
        assert run.wait(90) == 0, run.story()
        assert time.time() < end - 10
        assert long.events(1) == 0
    finally:
        shutil.rmtree(features)


def test_a_token_that_expires_soon_bounds_the_pilot(grid: Grid, pilot: StartPilot) -> None:
    made = time.time()
    token = grid.token(lifetime_seconds=60)
    run = pilot({"time": SHORT | {"retirement_seconds": 5}}, token=token).start()
    ad = in_the_pool(grid, run)
    assert run.wait(90) == 0, run.story()
    decided = run.report()["time"]
    assert (decided["decided"]["kind"], ad["GLIDEIN_Expire"]) == ("token", decided["decided"]["moment"])
    assert made + 59 <= ad["GLIDEIN_Expire"] <= made + 70
    assert time.time() < ad["GLIDEIN_Expire"] - 10
    run.nothing_left()


def test_a_fresh_token_lets_the_pilot_live_and_take_jobs_again(grid: Grid, pilot: StartPilot, jobs: Jobs) -> None:
    changes = {"time": SHORT | {"retirement_seconds": 40}, "pool": {"token_check_seconds": 1}}
    run = pilot(changes, token=grid.token(lifetime_seconds=90)).start()
    job = jobs.shell("sleep 70; exit 3", pilot=run).wait_running()
    run.wait_for("pilot.retiring")
    run.write("pool.token.new", grid.token(lifetime_seconds=3600) + "\n", mode=0o600)
    os.rename(run.outer / "pool.token.new", run.outer / "pool.token")
    renewed = run.wait_for("time.renewed")
    assert renewed["to_die"] > time.time() + 3000
    job.wait_done(120)
    assert job.exit_codes() == [3]
    later = jobs.shell("grep ^GLIDEIN_ToDie .machine.ad; exit 4", pilot=run, extra="+MaxRuntime = 600").wait_done()
    assert later.exit_codes() == [4]
    assert str(renewed["to_die"]) in later.output()
    run.signal(signal.SIGTERM)
    assert run.wait() == 143, run.story()
    run.nothing_left()


def test_a_token_that_expires_too_soon_is_the_vos_to_change(grid: Grid, pilot: StartPilot) -> None:
    run = pilot(token=grid.token(lifetime_seconds=300))
    assert run.run() == 67, run.story()
    assert run.failure()["code"] == "token.expires_soon"
    run.nothing_left()


def test_a_pilot_that_failed_holds_its_slot_no_longer_than_it_may_live(pilot: StartPilot) -> None:
    began = time.time()
    times = SHORT | {"walltime_seconds": 45, "retirement_seconds": 5}
    run = pilot({"time": times, "requirements": ["cpu.usable >= 1000"], "on_failure": {"hold_seconds": 3600}})
    assert run.run(60) == 64, run.story()
    assert time.time() < began + 45
    run.nothing_left()


def test_a_check_tells_when_a_pilot_would_end(pilot: StartPilot) -> None:
    run = pilot({"time": {"walltime_seconds": 86400}})
    done = run.call("check", "--config", f"factory={run.factory_file}")
    assert "because the configured time ends at" in " ".join(done.stdout.split())
    told = run.call("explain", "--config", f"factory={run.factory_file}").stdout
    assert "86400 s after the batch job's start" in " ".join(told.split())
