"""A pilot watches itself: broken nodes, services, disk and CVMFS that go away, each with the jobs that it concerns."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import plugins
from tests.integration.conftest import StartPilot
from tests.testbed.cvmfs.distribution import Server
from tests.testbed.grid import Grid
from tests.testbed.hosts import Host
from tests.testbed.pilots import PilotRun
from tests.testbed.user_jobs import Jobs, slot_ads

RAPID_JOBS = int(os.environ.get("PILOT_TEST_RAPID_JOBS", "24"))
REPOSITORY = "health.example.org"
SERVED = "served.example.org"
SERVER = "/var/tmp/health-server"
SMALL = "/small-scratch"
APPTAINER = "/usr/bin/apptainer"
STOP = "/home/pilot/stop-cache"
STRICT = {"black_hole_jobs": 3, "black_hole_clusters": 2}

CACHE = f"""
@hookimpl
def pilot_services():
    yield Service(
        name="cache", command=("/bin/sh", "-c", "while ! test -e {STOP}; do sleep 0.1; done; exit 3"), required=False,
    )
"""


class SmallDiskPilot(PilotRun):
    """A pilot whose workspace is on the small disk."""

    @property
    def workspace(self) -> Path | None:
        return next(self.host.path(SMALL).glob("pilot-*"), None)


def wait_for_ad(grid: Grid, run: PilotRun, constraint: str) -> None:
    """Until the collector's copy of the pilot's slot says so. HTCondor's own next report comes after 150 s."""
    run.wait_until(
        f"{constraint} at the collector", lambda: slot_ads(grid, run, f"PartitionableSlot && ({constraint})")
    )


class Served:
    """A repository that the site has mounted with a client: real FUSE, with the attributes of a CVMFS mount."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.place = f"/cvmfs/{SERVED}"
        self.server = Server(host, SERVER)
        self.server.publish(SERVED, {"new_repository": "served\n"}, revision=7)
        host.run(["mkdir", "-p", self.place])
        self.mount()

    def mount(self) -> None:
        """Mount it, as the site's autofs would."""
        options = "ro,nosuid,nodev,allow_other"
        done = self.host.run(["squashfuse_ll", "-o", options, self.server.image(SERVED), self.place])
        assert done.returncode == 0, done.stderr

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its client."""
        clients = [process for process in self.host.processes() if process.argv[-1:] == (self.place,)]
        assert clients
        self.host.run(["kill", f"-{number.value}", *(str(client.pid) for client in clients)])

    def remove(self) -> None:
        """Take it away with its client and its server."""
        self.signal(signal.SIGCONT)
        self.host.run(["umount", "-l", self.place])
        self.host.run(["rmdir", self.place, "/cvmfs"])
        self.server.remove()


@pytest.fixture(scope="module")
def served(grid: Grid) -> Iterator[Served]:
    """One such repository on the node of the watched pilot."""
    made = Served(grid.wn1)
    yield made
    made.remove()


@pytest.fixture(scope="module")
def watched(grid: Grid, payload: object, good_token: str, served: Served) -> Iterator[PilotRun]:
    """One pilot with a service, a repository and a small disk, for all tests that let it live."""
    host = grid.wn1
    for place, options in ((f"/cvmfs/{REPOSITORY}", "size=1m"), (SMALL, "size=400m,mode=1777")):
        host.run(["mkdir", "-p", place])
        assert host.run(["mount", "-t", "tmpfs", "-o", options, "none", place]).returncode == 0
    host.run(["touch", f"/cvmfs/{REPOSITORY}/new_repository"])
    looks = {"look_period_seconds": 1, "look_timeout_seconds": 10}
    changes = {
        "site": {"scratch": [SMALL]},
        "cvmfs": {"repositories": [REPOSITORY, SERVED], **looks},
        "startd": {"disk_floor_mib": 200, "disk_period_seconds": 1, **STRICT},
    }
    run = SmallDiskPilot(host, good_token, changes, plugins={"cache": plugins.PREAMBLE + CACHE})
    try:
        run.start().wait_for("pool.joined")
        wait_for_ad(grid, run, "PilotAccepting")
        yield run
    finally:
        run.destroy()
        host.run(["rm", "-f", STOP])
        for place in (f"/cvmfs/{REPOSITORY}", SMALL):
            host.run(["umount", "-l", place])
            host.run(["rmdir", place])


def test_many_honest_short_jobs_and_a_cluster_that_fails_by_itself_are_no_black_hole(
    watched: PilotRun, jobs: Jobs
) -> None:
    failing = jobs.shell("exit 1", pilot=watched, count=6)
    honest = jobs.shell("exit 0", pilot=watched, count=RAPID_JOBS)
    honest.wait_done(60 + 3 * RAPID_JOBS)
    failing.wait_done()
    assert watched.running
    assert not [event for event in watched.events() if event["event"] == "black_hole.suspected"]


def test_a_repository_that_goes_away_keeps_those_jobs_out_that_need_it(
    watched: PilotRun, jobs: Jobs, grid: Grid
) -> None:
    place = f"/cvmfs/{REPOSITORY}"
    watched.host.run(["mount", "--move", place, "/mnt"])
    watched.host.run(["mv", place, f"{place}.gone"])
    wait_for_ad(grid, watched, f'PilotCvmfsDown == "{REPOSITORY}"')
    needs = jobs.shell("exit 0", pilot=watched, extra=f'+WantCvmfs = "other.example.org, {REPOSITORY}"')
    inside = jobs.shell("exit 0", pilot=watched, extra=f'+SingularityImage = "{place}/image"')
    jobs.shell("exit 0", pilot=watched, extra='+WantCvmfs = "other.example.org"').wait_done()
    jobs.shell("exit 0", pilot=watched).wait_done()
    assert needs.events(1) == inside.events(1) == 0
    watched.host.run(["mv", f"{place}.gone", place])
    watched.host.run(["mount", "--move", "/mnt", place])
    wait_for_ad(grid, watched, "PilotCvmfsDown is undefined")
    needs.wait_done()


def test_a_client_that_is_stopped_and_one_that_died_are_told_apart_and_keep_those_jobs_out(
    watched: PilotRun, served: Served, jobs: Jobs, grid: Grid
) -> None:
    name = SERVED.replace(".", "_")
    wait_for_ad(grid, watched, f"HAS_CVMFS_{name} && CVMFS_{name}_REVISION == 7 && CVMFS_{name}_NIOERR == 0")
    wait_for_ad(grid, watched, f"HAS_CVMFS_{REPOSITORY.replace('.', '_')} && CVMFS_health_example_org_NIOERR == -1")
    served.signal(signal.SIGSTOP)
    wait_for_ad(grid, watched, f'HAS_CVMFS_{name} is False && PilotCvmfsDown == "{SERVED}"')
    needs = jobs.shell("exit 0", pilot=watched, extra=f'+WantCvmfs = "{SERVED}"')
    jobs.shell("exit 0", pilot=watched, extra=f'+WantCvmfs = "{REPOSITORY}"').wait_done()
    assert needs.events(1) == 0
    served.signal(signal.SIGCONT)
    needs.wait_done()
    served.signal(signal.SIGKILL)
    wait_for_ad(grid, watched, f"HAS_CVMFS_{name} is False")
    served.host.run(["umount", "-l", served.place])
    served.mount()
    wait_for_ad(grid, watched, f"HAS_CVMFS_{name} && PilotCvmfsDown is undefined")
    told = [event for event in watched.events() if event.get("repository") == SERVED]
    states = [event["state"] for event in told if event["event"] == "cvmfs.down"]
    assert (states[0], "broken" in states) == ("hung", True)
    assert told[-1]["event"] == "cvmfs.back"


def test_a_job_that_needs_a_service_that_went_down_does_not_begin_and_others_do(
    watched: PilotRun, jobs: Jobs, grid: Grid
) -> None:
    jobs.shell("exit 0", pilot=watched, extra='+WantServices = "Cache"').wait_done()
    never = jobs.shell("exit 0", pilot=watched, extra='+WantServices = "cache, no-such"')
    wait_for_ad(grid, watched, "SERVICE_CACHE_READY")
    watched.host.run(["touch", STOP])
    wait_for_ad(grid, watched, "SERVICE_CACHE_READY is False && Cache_Ready is False")
    needs = jobs.shell("exit 0", pilot=watched, extra='+WantServices = "cache"')
    jobs.shell("exit 0", pilot=watched).wait_done()
    assert needs.events(1) == never.events(1) == 0


def test_a_disk_that_fills_keeps_jobs_out_until_there_is_space_again(watched: PilotRun, jobs: Jobs, grid: Grid) -> None:
    watched.host.run(["fallocate", "-l", "250M", f"{SMALL}/filler"])
    watched.wait_for("disk.low")
    wait_for_ad(grid, watched, 'PilotAccepting is False && PilotNotAccepting == "disk"')
    job = jobs.shell("exit 0", pilot=watched)
    watched.host.run(["rm", f"{SMALL}/filler"])
    watched.wait_for("disk.free_again")
    job.wait_done()


def test_a_node_that_cannot_begin_jobs_is_drained_and_its_jobs_run_elsewhere(
    pilot: StartPilot, jobs: Jobs, grid: Grid
) -> None:
    named = {"startd": {"attributes": {"PilotTestRun": "black-hole"}, **STRICT}}
    broken = pilot(named).start()
    broken.wait_for("pool.joined")
    broken.host.run(["mv", APPTAINER, f"{APPTAINER}.away"])
    try:
        clusters = [jobs.shell("exit 5", pilot="black-hole", count=2) for _ in range(2)]
        broken.wait_for("black_hole.suspected")
        assert broken.wait() == 64, broken.story()
    finally:
        broken.host.run(["mv", f"{APPTAINER}.away", APPTAINER])
    failure = broken.failure()
    assert (failure["kind"], failure["code"]) == ("node_resource", "node.black_hole")
    assert "jobs here failed at once" in failure["message"]
    pilot(named, host="wn2").start()
    for job in clusters:
        assert job.wait_done().exit_codes() == [5, 5]
    broken.nothing_left()


def test_a_node_on_which_the_jobs_of_several_clusters_fail_at_once_is_drained(pilot: StartPilot, jobs: Jobs) -> None:
    run = pilot({"startd": STRICT}).start()
    # All are one user's: twice as many jobs and clusters are needed.
    for _ in range(4):
        jobs.shell("no-such-program", pilot=run, count=2)
    assert run.wait() == 64, run.story()
    assert run.failure()["code"] == "node.black_hole"
    assert "exit 127" in run.failure()["message"]
    run.nothing_left()
