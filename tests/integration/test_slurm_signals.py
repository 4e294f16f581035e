"""What a real Slurm sends to a pilot in a batch script: its warning before the end, a cancellation, a suspension."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.conftest import BUILT
from tests.testbed.grid import Grid
from tests.testbed.pilots import PRODUCTS, PilotRun, install_payload
from tests.testbed.runs import run_directory
from tests.testbed.slurm import ClusterPlan, SlurmCluster
from tests.testbed.user_jobs import Job, Jobs

NO_CONTAINERS = {"site": {"containers": "never", "scratch": ["{start}"]}, "images": {}}
SHORT = {"margin_seconds": 5, "spread_seconds": 0, "minimum_seconds": 5, "retirement_seconds": 5}
"""Times with which a pilot takes jobs in a batch job of two minutes."""
PATIENT_JOB = "touch ready; until [ -e finish ]; do sleep 0.2; done"
END_SECONDS = 120.0
LONG_ENOUGH_SECONDS = 8.0
"""Of a suspension, to be told of: a shorter one may be a machine that is busy."""


class BatchPilot:
    """A pilot in a batch script of Slurm's, with a job that runs until it is told to end."""

    def __init__(self, cluster: SlurmCluster, token: str, script: str, *options: str) -> None:
        self.run = PilotRun(cluster.host, token, NO_CONTAINERS | {"time": SHORT})
        self._cluster = cluster
        here = self.run.start_directory
        words = " ".join(self.run.command("run", "--config", f"factory={self.run.factory_file}", "--output", here))
        options = ("--ntasks=1", "--mem=900", "--time=2", *options)
        self.number, name = cluster.submit(script.replace("@PILOT@", words), *options, directory=here)
        self.files = [f"{name.rpartition('/')[2]}.{suffix}" for suffix in ("sh", "out", "err")]
        self.job: Job | None = None

    def with_job(self, jobs: Jobs) -> BatchPilot:
        """Wait until its job runs."""
        self.job = jobs.shell(PATIENT_JOB, pilot=self.run).wait_running()
        self.run.job_file("ready")
        return self

    def event(self, name: str) -> dict[str, Any]:
        """Wait for an event."""
        found: dict[str, Any] = self.run.wait_until(
            f"{name} among {self.names()}",
            lambda: next((one for one in self.run.events() if one["event"] == name), None),
            END_SECONDS,
        )
        return found

    def names(self) -> list[str]:
        """The events so far."""
        return [one["event"] for one in self.run.events()]

    def finish_job(self) -> None:
        """Let the job end."""
        (self.run.job_file("ready").parent / "finish").touch(mode=0o644)

    def ended(self) -> dict[str, str]:
        """Wait until the batch job is over; what Slurm says of it."""
        self.run.wait_until("end of the batch job", lambda: self._cluster.over(self.number), END_SECONDS)
        return self._cluster.told(self.number)


StartBatch = Callable[..., BatchPilot]


@pytest.fixture(scope="module")
def slurm(grid: Grid) -> Iterator[SlurmCluster]:
    """A node beside the grid with room for several pilots; Slurm waits as long as it does by default."""
    plan = ClusterPlan(cores=4, memory_mib=4000, kill_wait_seconds=30)
    with run_directory() as directory, SlurmCluster(directory, plan, beside=grid) as cluster:
        install_payload(cluster.host, BUILT)
        yield cluster


@pytest.fixture
def batch(slurm: SlurmCluster, good_token: str) -> Iterator[StartBatch]:
    """Submits pilots (script, options of sbatch) and ends what is left of them."""
    made: list[BatchPilot] = []

    def submit(script: str, *options: str) -> BatchPilot:
        made.append(BatchPilot(slurm, good_token, script, *options))
        return made[-1]

    yield submit
    for one in made:
        slurm.host.run(["scancel", "--signal=KILL", "--full", one.number])
        slurm.host.run(["scancel", one.number])
        one.run.destroy()


# With `B:` the warning goes to the first process of the script alone. Without it goes to every process of the steps and
# not to the script: HTCondor's and the jobs' processes are no more spared than the pilot's. Slurm looks at the limits
# every half minute, so it comes within the first minute of these jobs.
WARNED = (("exec @PILOT@", "--signal=B:USR1@100"), ("srun @PILOT@", "--signal=USR1@100"))


def test_slurms_warning_drains_a_pilot(batch: StartBatch, jobs: Jobs) -> None:
    spared, struck = (batch(script, option) for script, option in WARNED)
    for one in (spared, struck):
        one.with_job(jobs)
    spared.event("pilot.draining")
    spared.finish_job()
    told = spared.ended()
    assert (told["JobState"], told["ExitCode"]) == ("COMPLETED", "0:0"), spared.run.story()
    report = spared.run.report()
    assert (report["outcome"]["status"], report["jobs"]["ended"]) == ("ok", {"exit 0": 1})
    struck.event("pilot.draining")
    struck.ended()
    for one in (spared, struck):
        assert one.run.report()["leftovers"] == []
        one.run.nothing_left(allowed=(*PRODUCTS, *spared.files, *struck.files))


def test_a_cancelled_batch_job_ends_its_pilot_cleanly(batch: StartBatch, jobs: Jobs, slurm: SlurmCluster) -> None:
    one = batch("exec @PILOT@").with_job(jobs)
    slurm.host.run(["scancel", one.number])
    assert one.ended()["JobState"] == "CANCELLED"
    report = one.run.report()
    assert report["outcome"]["failure"]["code"] == f"signal.{signal.SIGTERM}"
    assert (report["jobs"]["ended"], report["leftovers"]) == ({"evicted": 1}, [])
    assert one.job is not None
    one.job.wait_evicted()
    one.run.nothing_left(allowed=(*PRODUCTS, *one.files))


def test_a_suspended_batch_job_goes_on_and_its_pilot_tells(batch: StartBatch, jobs: Jobs, slurm: SlurmCluster) -> None:
    one = batch("exec @PILOT@").with_job(jobs)
    assert slurm.host.run(["scontrol", "suspend", one.number]).returncode == 0
    # First SIGTSTP, which the guardian obeys, and 2 s later SIGSTOP.
    one.run.wait_until("stop", lambda: all(process.state in "TZ" for process in one.run.processes()))
    time.sleep(LONG_ENOUGH_SECONDS)
    assert slurm.host.run(["scontrol", "resume", one.number]).returncode == 0
    assert one.event("pilot.suspended")["suspended_seconds"] > 3
    one.finish_job()
    assert one.job is not None
    one.job.wait_done()
    assert one.job.exit_codes() == [0]
    slurm.host.run(["scancel", one.number])
    one.ended()
    report = one.run.report()
    assert [line for line in report["timeline"] if line["what"] == "suspended"]
    assert (report["jobs"]["ended"], report["leftovers"]) == ({"exit 0": 1}, [])
    one.run.nothing_left(allowed=(*PRODUCTS, *one.files))
