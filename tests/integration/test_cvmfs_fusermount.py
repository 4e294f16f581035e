"""CVMFS that pilots mount themselves, through fusermount: jobs in containers find it at /cvmfs, images lie in it, and
however a pilot ends nothing of it is left. The client is the stand-in; mounts, Apptainer and HTCondor are real."""

from __future__ import annotations

from collections.abc import Iterator
from signal import SIGKILL, SIGTERM
from typing import Any

import pytest

from tests.integration.conftest import StartPilot
from tests.integration.test_health import wait_for_ad
from tests.integration.test_sweep import kill_at_once, nothing_is_left_of, swept, workspace_name
from tests.testbed.cvmfs.distribution import Distribution, Server
from tests.testbed.grid import IMAGES_INSIDE, Grid
from tests.testbed.inspection import HostProcess
from tests.testbed.pilots import PilotRun
from tests.testbed.trees import PILOT
from tests.testbed.user_jobs import Jobs, slot_ads

DATA, IMAGES, CONDOR = "data.example.org", "images.example.org", "condor.example.org"
PLACE = "/var/tmp/own-mounts"
LATEST = f"/cvmfs/{IMAGES}/latest"
READ = f"cat /cvmfs/{DATA}/new_repository; . /etc/os-release; echo $VERSION_CODENAME"
SEEN = f"this is {DATA}\nbookworm\n"


@pytest.fixture(scope="module")
def distribution(grid: Grid) -> Iterator[Distribution]:
    """A repository of data, and one with an image, to which a link leads as it does in large repositories."""
    host = grid.wn1
    server = Server(host, f"{PLACE}/server")
    server.publish_configuration()
    server.publish(DATA, {"new_repository": f"this is {DATA}\n"}, revision=7)
    link = f"{PLACE}/latest"
    host.run(["ln", "-s", f"/cvmfs/{IMAGES}/.images/debian12", link])
    copies = {".images/debian12": f"{IMAGES_INSIDE}/debian12", "latest": link}
    server.publish(IMAGES, {".images/new_repository": "images\n"}, copies=copies)
    server.publish_htcondor(CONDOR)
    host.run(["chmod", "755", PLACE])
    host.run(["install", "-d", "-o", PILOT.name, "-g", PILOT.name, f"{PLACE}/distribution"])
    yield Distribution.lay_out(server, f"{PLACE}/distribution")
    host.run(["rm", "-rf", PLACE])


def configuration(distribution: Distribution, **cvmfs: Any) -> dict[str, Any]:
    """Of a pilot whose only image lies in CVMFS."""
    own = {"repositories": [DATA, IMAGES], "rungs": ["native", "fusermount"], "distribution": distribution.directory}
    return {"cvmfs": {**own, "look_period_seconds": 1, **cvmfs}, "images": {"debian12": [{"path": LATEST}]}}


def rungs(run: PilotRun) -> dict[str, dict[str, Any]]:
    """The ways to CVMFS in a report, by name."""
    return {rung["name"]: rung for rung in run.report()["cvmfs"]["rungs"]}


def of_workspace(run: PilotRun, name: str) -> list[str]:
    """Clients and mounts that a workspace has on the host."""
    clients = [process for process in run.processes() if any(f"/{name}/" in word for word in process.argv)]
    mounts = [mount.target for mount in run.host.mounts() if f"/{name}/" in mount.target]
    return mounts + [" ".join(one.argv) for one in clients if one.argv[0].endswith("squashfuse_ll")]


def clients_of(run: PilotRun, name: str) -> list[HostProcess]:
    """The clients of a workspace for the data; what looks at the mount has its path too."""
    own = [one for one in run.processes() if one.argv[-1].endswith(f"/{name}/cvmfs/dist/cvmfs/{DATA}")]
    return [one for one in own if one.argv[0].endswith("squashfuse_ll")]


def test_a_command_in_a_jobs_container_finds_it_and_leaves_nothing(
    pilot: StartPilot, distribution: Distribution
) -> None:
    run = pilot(configuration(distribution))
    done = run.call("exec", "--config", f"factory={run.factory_file}", "--", "/bin/sh", "-c", READ)
    assert (done.returncode, done.stdout) == (0, SEEN), done.stderr
    run.nothing_left()


def test_jobs_in_containers_find_what_the_pilot_mounted_until_it_ends(
    pilot: StartPilot, jobs: Jobs, grid: Grid, distribution: Distribution
) -> None:
    # It runs an HTCondor that is nowhere but in a repository that it mounts itself.
    brought = {"condor_source": ["cvmfs"], "condor_cvmfs": [f"/cvmfs/{CONDOR}/current"], "starter_isolation": "job"}
    first = pilot(configuration(distribution, repositories=[DATA, IMAGES, CONDOR]) | {"startd": brought}).start()
    # What is mounted outlives the process that mounted it.
    second = pilot(configuration(distribution), arguments=("--cut-after", "mount")).start()
    named = jobs.shell(READ, pilot=first, extra=f'+SingularityImage = "{LATEST}"')
    container = jobs.shell(READ, pilot=first, extra=f"universe = container\ncontainer_image = {LATEST}")
    needs = jobs.shell(READ, pilot=first, extra=f'+WantCvmfs = "{DATA}"')
    for job in (named, container, needs):
        assert job.wait_done().output() == SEEN, job.error()
    (ad,) = slot_ads(grid, first, "PartitionableSlot")
    assert (ad["PilotCvmfsOnlyInContainers"], ad["PilotCvmfsRepositories"]) == (True, [DATA, IMAGES, CONDOR])
    name = workspace_name(first)
    assert len(of_workspace(first, name)) == 8
    release = f"/{name}/cvmfs/dist/cvmfs/{CONDOR}/releases/used"
    masters = [str(one.pid) for one in first.processes() if one.argv[0].endswith("/condor_master")]
    programs = first.host.run(["readlink", *(f"/proc/{pid}/exe" for pid in masters)]).stdout
    assert f"{release}/sbin/condor_master\n" in programs
    # One that hangs, as a client does whose server does not answer.
    (hanging,) = clients_of(first, name)
    first.host.run(["kill", "-STOP", str(hanging.pid)])
    first.signal(SIGTERM)
    assert first.wait() == 143, first.story()
    assert of_workspace(first, name) == []
    nothing_is_left_of(first, name)
    report = first.report()
    assert report["leftovers"] == []
    assert rungs(first)["fusermount"]["state"] == "taken"
    assert report["node"]["cvmfs"]["mount_point"]["value"].endswith(f"/{name}/cvmfs/dist/cvmfs")
    assert report["node"]["cvmfs"]["revisions"]["value"] == {DATA: 7, IMAGES: 1, CONDOR: 1}
    assert (report["condor"]["source"], report["condor"]["place"]) == ("cvmfs", f"/cvmfs/{CONDOR}/current")
    assert report["condor"]["release"].endswith(release)

    # A client that died is replaced, and later jobs find its repository again.
    name = workspace_name(second)
    (dead,) = clients_of(second, name)
    second.host.run(["kill", "-9", str(dead.pid)])
    # It may be seen to be back before the program that mounted it has ended.
    for event in ("cvmfs.back", "cvmfs.remounted"):
        second.wait_for(event)
    # Between unmounting and mounting it may be seen to be missing, which is told too.
    down = next(event for event in second.events() if event["event"] == "cvmfs.down")
    assert (down["state"], down["repair"]) == ("broken", "the pilot mounts it again")
    wait_for_ad(grid, second, f"HAS_CVMFS_{DATA.replace('.', '_')} && PilotCvmfsDown is undefined")
    assert jobs.shell(READ, pilot=second, extra=f'+WantCvmfs = "{DATA}"').wait_done().output() == SEEN

    # Nobody is left who would unmount, while the clients go on; then not even those.
    name = workspace_name(second)
    kill_at_once(second)
    third = pilot(configuration(distribution)).start()
    swept(third, name)
    assert of_workspace(second, name) == []
    nothing_is_left_of(second, name)
    third.joined()
    name = workspace_name(third)
    third.signal_all(SIGKILL)
    third.wait()
    third.wait_until("only mounts are left", lambda: len(of_workspace(third, name)) == 3)
    fourth = pilot(configuration(distribution, use="required", repositories=["nosuch.example.org"]))
    assert fourth.run() == 64, fourth.story()
    swept(fourth, name)
    assert of_workspace(third, name) == []
    nothing_is_left_of(third, name)

    failure = fourth.failure()
    assert (failure["code"], failure["stage"]) == ("cvmfs.broken", "mount")
    for said in ("mountrepo exited 16", "Failed to initialize root file catalog", "no manifest at"):
        assert said in failure["message"]
    assert rungs(fourth)["fusermount"]["state"] == "refused"
    fourth.nothing_left()
