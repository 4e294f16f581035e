"""A pilot that goes into namespaces of its own, where /cvmfs is real for all that it starts, and leaves nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.conftest import StartPilot
from tests.integration.test_hostile_logins import log_in
from tests.integration.test_pilot_ends import preempted
from tests.integration.test_sweep import kill_at_once
from tests.testbed.cvmfs.distribution import CONFIGURATION, Distribution, Server
from tests.testbed.grid import IMAGES_INSIDE, Grid
from tests.testbed.leftovers import snapshot
from tests.testbed.pilots import PilotRun, merged
from tests.testbed.trees import PILOT
from tests.testbed.user_jobs import Jobs, slot_ads

DATA, IMAGES, HTCONDOR = "data.example.org", "images.example.org", "htcondor.example.org"
PLACE = "/var/tmp/cvmfs-namespace"
READ = f"cat /cvmfs/{DATA}/new_repository; ls /cvmfs; id -u"
FOUND = [f"this is {DATA}", CONFIGURATION, DATA, HTCONDOR, IMAGES, str(PILOT.uid)]


@pytest.fixture(scope="module")
def distribution(grid: Grid) -> Iterator[Distribution]:
    """A client on the node, with a repository that has a file and one that has an image."""
    host = grid.wn1
    before = snapshot(host)
    server = Server(host, f"{PLACE}/server")
    server.publish_configuration()
    server.publish(DATA, {"new_repository": f"this is {DATA}\n"}, revision=7)
    server.publish_htcondor(HTCONDOR)
    server.publish(IMAGES, {"new_repository": "images\n"})
    host.run(["rm", server.image(IMAGES)])
    image = f"{IMAGES_INSIDE}/debian12.sif"
    attributes = ["-p", f"/ x user.fqrn={IMAGES}"]
    done = host.run(
        [
            "mksquashfs",
            image,
            server.image(IMAGES),
            "-noD",
            "-noF",
            "-quiet",
            "-no-progress",
            *attributes,
        ]
    )
    assert done.returncode == 0, done.stderr
    host.run(["chmod", "755", PLACE])
    host.run(["chmod", "a+r", server.image(IMAGES)])
    host.run(["install", "-d", "-o", PILOT.name, "-g", PILOT.name, f"{PLACE}/distribution"])
    made = Distribution.lay_out(server, f"{PLACE}/distribution")
    yield made
    made.remove()
    server.remove()
    host.run(["rm", "-rf", PLACE])
    assert snapshot(host) == before


def configured(distribution: Distribution, **changes: Any) -> dict[str, Any]:
    """A pilot's configuration with these repositories."""
    cvmfs = {"repositories": [DATA, HTCONDOR, IMAGES], "distribution": distribution.directory}
    images = {
        "debian13": [{"path": f"{IMAGES_INSIDE}/debian13"}],
        "from_cvmfs": [{"path": f"/cvmfs/{IMAGES}/debian12.sif"}],
    }
    return merged({"cvmfs": cvmfs, "images": images}, changes)


def went_inside(run: PilotRun) -> None:
    """The pilot's keeper is where /cvmfs is, and its guardian is not."""
    keeper, guardian = run.process("_keeper"), run.process("run")
    assert keeper is not None, run.story()
    assert guardian is not None, run.story()
    mounts = [run.host.run(["readlink", f"/proc/{one.pid}/ns/mnt"]).stdout for one in (keeper, guardian)]
    assert mounts[0] != mounts[1]


def test_container_jobs_read_cvmfs_and_one_has_its_image_there(
    pilot: StartPilot, jobs: Jobs, grid: Grid, distribution: Distribution
) -> None:
    place = f"/cvmfs/{HTCONDOR}/current"
    startd = {"starter_isolation": "job", "condor_source": ["cvmfs"], "condor_cvmfs": [place]}
    run = pilot(configured(distribution, startd=startd)).start()
    run.joined()
    stays = jobs.shell("touch made; exec sleep 300", pilot=run)
    contained = jobs.shell(READ, pilot=run)
    from_cvmfs = jobs.shell(f"cat /etc/debian_version; {READ}", pilot=run, extra='+REQUIRED_OS = "from_cvmfs"\n')
    assert contained.wait_done().output().split("\n")[:-1] == FOUND
    assert from_cvmfs.wait_done().output().split("\n")[1:-1] == FOUND
    assert from_cvmfs.output().startswith("12.")
    stays.wait_running()
    run.job_file("made")
    login = log_in(grid, stays, f"cat /cvmfs/{DATA}/new_repository; ls made")
    assert login.stdout.split("\n")[:2] == [FOUND[0], "made"], login.stderr
    assert {(ad["PilotStarterIsolation"], ad["PilotJobIsolation"]) for ad in slot_ads(grid, run)} == {("job", "strong")}
    went_inside(run)
    run.signal(signal.SIGTERM)
    preempted(run)
    report = run.report()
    assert [(rung["name"], rung["state"]) for rung in report["cvmfs"]["rungs"]][:2] == [
        ("native", "refused"),
        ("namespace", "taken"),
    ]
    node = report["node"]
    assert node["cvmfs"]["repositories"] | {"source": ""} == node["cvmfs"]["repositories"] | {
        "source": "",
        "value": [DATA, HTCONDOR, IMAGES],
        "where": "inside",
    }
    assert node["userns"]["usable"]["where"] == "inside"
    assert report["outside"]
    assert (report["condor"]["source"], report["condor"]["release"]) == ("cvmfs", place)


def test_plain_jobs_read_it_too_and_a_killed_guardian_leaves_nothing(
    pilot: StartPilot, jobs: Jobs, distribution: Distribution
) -> None:
    run = pilot(configured(distribution, site={"containers": "never"}, vo={"containers": "optional"})).start()
    assert jobs.shell(READ, pilot=run).wait_done().output().split("\n")[:-1] == FOUND
    went_inside(run)
    run.signal(signal.SIGKILL)
    run.wait()
    run.nothing_left(seconds=30)


def test_a_killed_keeper_leaves_nothing(pilot: StartPilot, distribution: Distribution) -> None:
    run = pilot(configured(distribution)).start().joined()
    run.wait_until("the keeper", lambda: run.process("_keeper"))
    run.signal(signal.SIGKILL, "_keeper")
    assert run.wait() == 70
    assert run.report()["leftovers"] == []
    run.nothing_left()


def test_what_a_kill_of_both_leaves_the_next_pilot_removes(pilot: StartPilot, distribution: Distribution) -> None:
    run = pilot(configured(distribution)).start().joined()
    run.wait_until("the keeper", lambda: run.process("_keeper"))
    kill_at_once(run)
    following = pilot({"cvmfs": {"use": "never"}}).start()
    swept = following.wait_for("pilot.swept")
    assert swept["leftovers"] == []
    following.signal(signal.SIGTERM)
    preempted(following)
    run.nothing_left()
