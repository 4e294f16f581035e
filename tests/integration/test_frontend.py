"""Jobs that wait become pilots and end in them: a frontend, a factory, and whatever of the rest goes away meanwhile."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.integration.conftest import BUILT
from tests.testbed.grid import SITE_POOL, USER_POOL, Grid, GridPlan
from tests.testbed.runs import run_directory
from tests.testbed.trees import USER
from tests.testbed.user_jobs import Job, Jobs
from tests.testbed.vo_service import CODE, ENVIRONMENT, FRONTEND_FILE, SITE_NAME, VoService, libraries

LONG_SECONDS = 20
ACCESS_POINT = "pool.pool.test"
CUT_PORT = 19618
MANY_JOBS = 500

CUTTER = f"""
import socket, sys, threading
def pump(source, target, left):
    while left > 0 and (data := source.recv(65536)[:left]):
        target.sendall(data)
        left -= len(data)
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
server = socket.create_server(("{SITE_POOL.head}", {CUT_PORT}))
print("ready", flush=True)
while True:
    client, _ = server.accept()
    access_point = socket.create_connection(("{USER_POOL.head}", 9618))
    threading.Thread(target=pump, args=(client, access_point, 1 << 40), daemon=True).start()
    threading.Thread(target=pump, args=(access_point, client, int(sys.argv[1])), daemon=True).start()
"""
"""Between a client and the user pool: of what comes back only so many bytes pass, then the connection ends."""

ASK = f"""
import json, time
from server_stub.frontend.configuration import read_frontend
from server_stub.frontend.pool import PoolReader
class Through(PoolReader):
    def _points(self, result, directory):
        points, missing = super()._points(result, directory)
        for point in points:
            for old, new in (("{USER_POOL.head}:9618", "{SITE_POOL.head}:{CUT_PORT}"),
                             ("{USER_POOL.head}-9618", "{SITE_POOL.head}-{CUT_PORT}")):
                point.location["MyAddress"] = point.location["MyAddress"].replace(old, new)
        return points, missing
frontend = read_frontend("{FRONTEND_FILE}")
view = Through(frontend.pool, frontend.access_points).read(time.time(), {{}})
print(json.dumps([len(view.jobs), dict(view.missing)]))
"""
"""What a frontend sees that reaches the access point on that way."""


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


def seen_through(grid: Grid, passing_bytes: int) -> tuple[int, dict[str, str]]:
    """Jobs and what is missing, for a frontend of whose access point's answers only so many bytes come."""
    cutter = grid.factory.popen(["python3", "-c", CUTTER, str(passing_bytes)], stdout=subprocess.PIPE)
    assert cutter.stdout is not None
    try:
        assert cutter.stdout.readline() == "ready\n"
        done = grid.factory.run(["python3", "-B", "-c", ASK], user=USER.name, cwd=CODE, env=ENVIRONMENT)
    finally:
        cutter.kill()
        cutter.wait()
        cutter.stdout.close()
    assert done.returncode == 0, done.stderr
    count, missing = json.loads(done.stdout)
    return count, missing


def test_an_answer_that_ends_in_the_middle_is_none(grid: Grid, service: VoService, jobs: Jobs) -> None:
    waiting(jobs, 1, MANY_JOBS)
    assert seen_through(grid, 1 << 40) == (MANY_JOBS, {})
    for passing_bytes in (100_000, 2_000):
        count, missing = seen_through(grid, passing_bytes)
        assert count == 0
        assert "Failed to fetch ads" in missing[ACCESS_POINT]


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
