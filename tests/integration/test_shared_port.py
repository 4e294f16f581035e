"""All daemons of a pilot behind one port: jobs run in containers and without, and their owners enter them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.grid import Grid
from tests.testbed.pilots import PilotRun
from tests.testbed.trees import PILOT, USER
from tests.testbed.user_jobs import Jobs

LISTENING = "0A"
LOOPBACK = "7F"
OS = ". /etc/os-release; echo $VERSION_CODENAME"
# The starter whose parent has another number besides.
CHANGES = {"site": {"containers": "optional"}, "startd": {"shared_port": True, "starter_isolation": "job"}}


@pytest.fixture(scope="module")
def behind(grid: Grid, payload: Path, good_token: str) -> Iterator[PilotRun]:
    run = PilotRun(grid.hosts["wn1"], good_token, CHANGES)
    try:
        yield run.start().joined()
    finally:
        run.destroy()


def open_ports(run: PilotRun) -> list[int]:
    """The ports at which the pilots' account listens for other hosts, from proc_pid_net(5)."""
    found = []
    for line in run.host.run(["cat", "/proc/net/tcp"]).stdout.splitlines()[1:]:
        _, local, _, state, _, _, _, uid, *_ = line.split()
        address, port = local.split(":")
        if state == LISTENING and int(uid) == PILOT.uid and not address.endswith(LOOPBACK):
            found.append(int(port, 16))
    return found


def test_a_contained_job_runs_and_is_entered_behind_the_one_port(grid: Grid, behind: PilotRun, jobs: Jobs) -> None:
    job = jobs.shell(f"{OS}; until [ -e seen ]; do sleep 0.1; done", pilot=behind).wait_running()
    assert len(open_ports(behind)) == 1
    words = ["condor_ssh_to_job", "-auto-retry", f"{job.cluster}.0", f"{OS}; touch seen"]
    visit = grid.pool.run(words, user=USER.name, cwd=USER.home, timeout_seconds=60)
    assert visit.stdout.strip() == "trixie", visit.stderr
    assert job.wait_done().exit_codes() == [0]
    assert job.output() == "trixie\n"
    assert job.events(4) == 0, job.log


def test_a_job_without_a_container_runs(behind: PilotRun, jobs: Jobs) -> None:
    job = jobs.shell("exit 7", pilot=behind, extra="+WantContainer = false")
    assert job.wait_done().exit_codes() == [7]
