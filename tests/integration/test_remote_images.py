"""Images that are fetched when the first job needs them: once for a node, proven, and no trap for good jobs."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from signal import Signals

import pytest

from tests.integration.conftest import StartPilot
from tests.testbed.grid import IMAGES_INSIDE, Grid
from tests.testbed.image_server import ImageServer, image_server
from tests.testbed.pilots import PRODUCTS, PilotRun
from tests.testbed.user_jobs import Jobs

LOOK = ". /etc/os-release; echo $VERSION_CODENAME"


@pytest.fixture(scope="module")
def server(grid: Grid) -> Iterator[ImageServer]:
    with image_server(grid) as running:
        for name in ("debian12.sif", "debian13.sif"):
            shutil.copyfile(grid.pool.path(f"{IMAGES_INSIDE}/{name}"), running.files / name)
        (running.files / "page.sif").write_text("<html>Please log in</html>")
        whole = (running.files / "debian13.sif").read_bytes()
        (running.files / "short.sif").write_bytes(whole[: len(whole) // 2])
        yield running


LOCAL = {"debian13": [{"path": f"{IMAGES_INSIDE}/debian13"}]}


def started(
    pilot: StartPilot, server: ImageServer, images: Mapping[str, object], *, host: str = "wn1", **changes: object
) -> PilotRun:
    """A pilot with this dictionary that trusts the server."""
    run = pilot({"images": images, **changes}, host=host)
    certificate = run.write("ca.pem", server.certificate)
    run.environment["SSL_CERT_FILE"] = f"{run.start_directory}/{certificate.name}"
    return run.start()


def ended(run: PilotRun) -> None:
    """End the pilot by a signal; it leaves nothing."""
    run.signal(Signals.SIGTERM)
    assert run.wait() == 143, run.story()
    run.nothing_left(allowed=(*PRODUCTS, "ca.pem"))


def digest(server: ImageServer, name: str) -> str:
    return "sha256:" + hashlib.sha256((server.files / name).read_bytes()).hexdigest()


@pytest.mark.parametrize("host", ["wn1", "wn2"])
def test_a_remote_image_of_the_dictionary_is_fetched_once_for_all_jobs(
    pilot: StartPilot, server: ImageServer, jobs: Jobs, host: str
) -> None:
    pinned = {"path": f"{server.url}debian12.sif?{host}", "digest": digest(server, "debian12.sif")}
    images = {**LOCAL, "far": [pinned]}
    run = started(pilot, server, images, host=host)
    done = jobs.shell(LOOK, pilot=run, extra='+REQUIRED_OS = "far"', count=4).wait_done()
    assert [done.output(number).strip() for number in range(4)] == ["bookworm"] * 4
    assert server.requests().count(f"/debian12.sif?{host}") == 1
    assert jobs.shell(LOOK, pilot=run).wait_done().output().strip() == "trixie"
    ended(run)
    why = {entry["candidate"]: entry for entry in run.report()["container"]["why"]}
    assert why[pinned["path"]]["taken"]
    assert not why[pinned["path"]]["proven"]


def test_an_image_that_the_job_names_is_fetched_too(pilot: StartPilot, server: ImageServer, jobs: Jobs) -> None:
    run = started(pilot, server, LOCAL)
    named = f'+SingularityImage = "{server.url}debian12.sif"'
    assert jobs.shell(LOOK, pilot=run, extra=named).wait_done().output().strip() == "bookworm"
    ended(run)


@pytest.mark.parametrize(
    ("name", "code"), [("nosuch.sif", "404"), ("page.sif", "image"), ("short.sif", "image")], ids=str
)
def test_a_job_that_names_what_is_no_image_is_held_with_the_reason(
    pilot: StartPilot, server: ImageServer, jobs: Jobs, name: str, code: str
) -> None:
    run = started(pilot, server, LOCAL)
    job = jobs.shell(LOOK, pilot=run, extra=f'+SingularityImage = "{server.url}{name}"').wait_held()
    assert code in job.log
    assert f"{server.url}{name}" in job.log
    assert jobs.shell(LOOK, pilot=run).wait_done().output().strip() == "trixie"
    ended(run)


@pytest.mark.parametrize("name", ["down.sif", "slow.sif"])
def test_a_job_goes_elsewhere_when_its_image_cannot_be_fetched_now(
    pilot: StartPilot, server: ImageServer, jobs: Jobs, name: str
) -> None:
    run = started(pilot, server, {"far": [{"path": f"{server.url}{name}"}]}, containers={"fetch_seconds": 3})
    job = jobs.shell(LOOK, pilot=run).wait_evicted()
    assert job.events(12) == 0
    job.remove()
    ended(run)


def test_a_dictionary_with_a_wrong_digest_is_no_fault_of_the_job(
    pilot: StartPilot, server: ImageServer, jobs: Jobs
) -> None:
    pinned = {"path": f"{server.url}debian12.sif", "digest": "sha256:" + "0" * 64}
    run = started(pilot, server, {"far": [pinned]})
    job = jobs.shell(LOOK, pilot=run).wait_evicted()
    assert "image.digest" in job.log
    assert job.events(12) == 0
    job.remove()
    ended(run)
