"""Jobs that wait become pilots and end in them: a frontend, a factory, and whatever of the rest goes away meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.conftest import BUILT
from tests.testbed.grid import Grid, GridPlan
from tests.testbed.runs import run_directory
from tests.testbed.user_jobs import Job, Jobs
from tests.testbed.vo_service import SITE_NAME, VoService, libraries

LONG_SECONDS = 25
ACCESS_POINT = "pool.pool.test"


@pytest.fixture(scope="module")
def grid(testbed_machine: None) -> Iterator[Grid]:
    """A grid whose hosts have what the services need."""
    with run_directory() as directory, Grid(directory, GridPlan(binds=(libraries(),))) as running:
        yield running


@pytest.fixture(scope="module")
def service(grid: Grid) -> Iterator[VoService]:
    made = VoService(grid, BUILT, grid.directory)
    yield made
    made.frontend.stop()
    made.factory.stop()


def waiting(jobs: Jobs, seconds: int, count: int) -> Job:
    """Jobs that only the frontend's pilots take, as they have no others to go to."""
    text = f'executable = /bin/sleep\narguments = {seconds}\nrequirements = TARGET.GLIDEIN_Site == "{SITE_NAME}"\n'
    return jobs.submit(text, pilot=None, count=count)


def unfinished(service: VoService) -> int:
    """Pilots of the frontend that wait or run, as the factory tells it."""
    ends = ("ended", "removed", "refused", "lost")
    return sum(pilot["state"] not in ends for pilot in service.frontend.told("pilots"))


def test_jobs_get_pilots_that_stay_whatever_is_away_and_leave_when_no_job_is_left(
    grid: Grid, service: VoService, jobs: Jobs
) -> None:
    service.factory.start()
    service.frontend.start()
    ran = waiting(jobs, LONG_SECONDS, 2)
    ran.wait_running()
    service.wait("pilot in the frontend's view", lambda: service.entry().get("busy", 0) > 0)

    # The access point goes: what it has is not seen, and not gone.
    grid.pool.run(["condor_off", "-fast", "-daemon", "schedd"])
    service.wait("freezing", lambda: ACCESS_POINT in service.status().get("frozen", ""))
    service.wait_cycles(2)
    frozen = service.entry()
    assert frozen["remove"] == "NO"
    grid.pool.run(["condor_on", "-daemon", "schedd"])
    service.wait("thawing", lambda: service.status().get("frozen") == "")

    # The factory goes: the frontend goes on with what it knew, and tells it so.
    assert service.factory.stop() == 0
    service.wait("away", lambda: service.status()["factories"][0]["offers"] == "kept")
    service.wait_cycles(2)
    service.factory.start()
    service.wait("back", lambda: service.status()["factories"][0]["offers"] == "fresh")

    # A restart of the frontend goes on with its count.
    cycle = service.status()["cycle"]
    assert service.frontend.stop() == 0
    service.frontend.start()
    service.wait("restart", lambda: service.status()["cycle"] > cycle)

    ran.wait_done()
    service.wait("end of all pilots", lambda: unfinished(service) == 0)
    assert service.entry()["asked_queued"] == 0
    pilots = service.frontend.told("pilots")
    assert {pilot["state"] for pilot in pilots} == {"ended"}
    assert sum(pilot["jobs_started"] or 0 for pilot in pilots) >= 2
