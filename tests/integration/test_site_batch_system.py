"""Under the site's own HTCondor: what a removed, vacated, or finished batch job of a pilot leaves on the node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import StartPilot
from tests.testbed.grid import Grid
from tests.testbed.leftovers import pilot_processes
from tests.testbed.pilots import INSTALLED, PilotRun
from tests.testbed.user_jobs import Jobs

SHORT_VACATE_SECONDS = 3
HOME = "/home/pilot"


class Batch:
    """A pilot as the site's batch job: submitted on the factory's host, sent to a node by its own HTCondor."""

    def __init__(self, grid: Grid, run: PilotRun) -> None:
        self._head = grid.factory
        self.run = run
        self.name = run.name
        for name in ("factory.json", "pool.token"):
            content = (run.outer / name).read_text(encoding="utf-8").replace(f"{run.start_directory}/", f"{self.name}.")
            self._write(f"{self.name}.{name}", content)
        self._write(f"{self.name}.sub", self._description())
        done = self._head.run(["condor_submit", "-terse", f"{self.name}.sub"], user="pilot", cwd=HOME)
        assert done.returncode == 0, done.stderr
        self.cluster = done.stdout.split(".")[0]

    def _description(self) -> str:
        payload = f"pilot.{self.run.payload}"
        words = f"--payload {INSTALLED}/{payload} --sha256 @DIGEST@ -- run --config factory={self.name}.factory.json"
        digest = self.run.host.run(["sha256sum", f"{INSTALLED}/{payload}"]).stdout.split()[0]
        return f"""
            executable = {INSTALLED}/launcher.sh
            transfer_executable = false
            arguments = "{words.replace("@DIGEST@", digest)}"
            transfer_input_files = {self.name}.factory.json, {self.name}.pool.token
            transfer_output_files = report.json, events.jsonl
            transfer_output_remaps = "report.json={self.name}.report.json; events.jsonl={self.name}.events.jsonl"
            when_to_transfer_output = ON_EXIT_OR_EVICT
            should_transfer_files = YES
            output = {self.name}.out
            error = {self.name}.err
            log = {self.name}.log
            requirements = TARGET.Machine == "{self.run.host.plan.name}.site.test"
            on_exit_remove = true
            queue
        """

    def _write(self, name: str, text: str) -> None:
        path = self._head.path(f"{HOME}/{name}")
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        self._head.run(["chown", "pilot:pilot", f"{HOME}/{name}"])

    def tool(self, name: str, *words: str) -> None:
        """Run one of HTCondor's tools on this job."""
        done = self._head.run([name, *words, self.cluster], user="pilot")
        assert done.returncode == 0, done.stderr

    def left_node(self) -> bool:
        """Whether the node has no process of the pilot's account, no site job, and no directory of one."""
        starters = [process for process in self.run.host.processes() if process.argv[0].endswith("condor_starter")]
        sandboxes = list(self.run.host.path("/var/lib/condor/execute").glob("dir_*"))
        return not (pilot_processes(self.run.host) or starters or sandboxes)

    def file(self, name: str) -> Path:
        """What came back to the factory."""
        return self._head.path(f"{HOME}/{self.name}.{name}")


@pytest.fixture
def submitted(grid: Grid, pilot: StartPilot) -> Iterator[list[Batch]]:
    """Holds what a test submitted, and removes it at the end."""
    made: list[Batch] = []
    yield made
    for batch in made:
        grid.factory.run(["condor_rm", batch.cluster], user="pilot")
        batch.run.wait_until("end of the batch job", batch.left_node)


@pytest.fixture
def short_vacate(grid: Grid) -> Iterator[None]:
    """The nodes kill a job soon after they told it to end."""
    texts = {}
    for host in grid.workers:
        path = host.path("/etc/condor/condor_config")
        texts[host] = path.read_text(encoding="utf-8")
        path.write_text(texts[host] + f"MachineMaxVacateTime = {SHORT_VACATE_SECONDS}\n", encoding="utf-8")
        host.run(["condor_reconfig"])
    yield
    for host, text in texts.items():
        host.path("/etc/condor/condor_config").write_text(text, encoding="utf-8")
        host.run(["condor_reconfig"])


BRIEF = {"startd": {"idle_shutdown_seconds": 2}}
STUBBORN_JOB = "trap '' TERM INT HUP QUIT; while :; do sleep 0.2; done"
"""It takes all the patience of the pilot."""


@pytest.mark.parametrize("host", ["wn1", "wn2"])
def test_of_a_removed_batch_job_nothing_is_left_after_the_next_pilot(
    grid: Grid, pilot: StartPilot, jobs: Jobs, submitted: list[Batch], short_vacate: None, host: str
) -> None:
    run = pilot(host=host)
    submitted.append(batch := Batch(grid, run))
    jobs.shell(STUBBORN_JOB, pilot=run).wait_running()
    batch.tool("condor_rm")
    run.wait_until("end of everything", batch.left_node)
    # The node kills what takes too long, the guardian too: then the list of the node still names its workspace.
    pilot(BRIEF, host=host).run()
    run.nothing_left(allowed=())


def test_a_vacated_batch_job_gives_its_users_job_back(
    grid: Grid, pilot: StartPilot, jobs: Jobs, submitted: list[Batch]
) -> None:
    run = pilot()
    submitted.append(batch := Batch(grid, run))
    job = jobs.shell("sleep 600", pilot=run).wait_running()
    batch.tool("condor_hold")
    run.wait_until("end of everything", batch.left_node)
    job.wait_evicted()
    run.nothing_left(allowed=())


def test_of_a_batch_job_that_is_vacated_at_once_nothing_is_left_after_the_next_pilot(
    grid: Grid, pilot: StartPilot, jobs: Jobs, submitted: list[Batch], short_vacate: None
) -> None:
    run = pilot()
    submitted.append(batch := Batch(grid, run))
    jobs.shell(STUBBORN_JOB, pilot=run).wait_running()
    # The next try of the batch job must not begin while the first is looked for.
    grid.factory.run(["condor_qedit", batch.cluster, "Requirements", "false"], user="pilot")
    batch.tool("condor_vacate_job", "-fast")
    run.wait_until("end of everything", batch.left_node)
    pilot(BRIEF).run()
    run.nothing_left(allowed=())


@pytest.mark.parametrize("host", ["wn1", "wn2"])
def test_an_idle_pilot_ends_its_batch_job_with_success(
    grid: Grid, pilot: StartPilot, submitted: list[Batch], host: str
) -> None:
    run = pilot(BRIEF, host=host)
    submitted.append(batch := Batch(grid, run))
    words = ["condor_wait", "-wait", "60", f"{run.name}.log"]
    waited = grid.factory.run(words, user="pilot", cwd=HOME, timeout_seconds=90)
    assert waited.returncode == 0, batch.file("err").read_text()
    assert "return value 0" in batch.file("log").read_text()
    assert '"status": "ok"' in batch.file("report.json").read_text()
    run.nothing_left(allowed=())
