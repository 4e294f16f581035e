"""A real Triton server beside the jobs of a real pilot: asked by jobs in containers, killed, and started again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

import pytest

from tests.packaging.signing import Operator
from tests.testbed import triton
from tests.testbed.demo.account import terminal_width
from tests.testbed.demo.progress import Progress
from tests.testbed.grid import ADDRESSES, Grid
from tests.testbed.pilots import PilotRun
from tests.testbed.triton_demo import account, make_pilot, play
from tests.testbed.user_jobs import Jobs

COUNT = 3
SECONDS = 120.0
ARCHIVE = "files/atlas/models-3.zip"
MIRROR = "/srv/artifacts"


@pytest.fixture
def serving(grid: Grid, payload: object, good_token: str) -> Iterator[Callable[..., PilotRun]]:
    """Makes pilots (not yet started) with a server, and destroys them at the end."""
    made: list[PilotRun] = []

    def make(**options: object) -> PilotRun:
        made.append(make_pilot(grid, good_token, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for run in made:
        run.destroy()


@dataclass(frozen=True)
class Mirror:
    """Where a VO's signed models are served; ``bundle`` says whom to believe."""

    place: Path
    bundle: str

    def alter(self) -> None:
        """Change one byte of the models."""
        [path] = self.place.rglob("*.zip")
        content = bytearray(path.read_bytes())
        content[40] ^= 1
        path.write_bytes(content)


@pytest.fixture
def mirror(grid: Grid, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Mirror]:
    """The models of the testbed as a VO signs them, on the web server of another host."""
    operator = Operator(tmp_path, capsys)
    operator.do("init")
    operator.do("delegate", "atlas", "--public", operator.key("atlas"))
    archive = shutil.make_archive(str(tmp_path / "models-3"), "zip", triton.ensure() / "models")
    operator.do("add", "files", archive, "--vo", "atlas", keys=operator.place / "atlas")
    operator.publish()
    operator.do("bundle", tmp_path / "trust.json")
    shutil.copytree(operator.published, grid.pool.path(MIRROR))
    command = ["python3", "-m", "http.server", "8098", "--bind", ADDRESSES["pool"], "--directory", MIRROR]
    with (grid.pool.directory / "mirror.log").open("w") as log:
        door = grid.pool.popen(command, stdout=log, stderr=log)
    try:
        yield Mirror(grid.pool.path(MIRROR), (tmp_path / "trust.json").read_text())
    finally:
        door.kill()
        door.wait()
        grid.pool.run(["rm", "-r", MIRROR])


def signed(serving: Callable[..., PilotRun], mirror: Mirror) -> PilotRun:
    """A pilot (not yet started) that needs a server with the signed models."""
    artifacts = {"mirrors": [f"http://{ADDRESSES['pool']}:8098"], "bundle": "{start}/trust.json"}
    run = serving(repository=f"signed:{ARCHIVE}", artifacts=artifacts, required=True)
    run.write("trust.json", mirror.bundle)
    return run


def test_the_server_serves_models_that_the_vo_signed_and_none_that_were_altered(
    serving: Callable[..., PilotRun], mirror: Mirror
) -> None:
    run = signed(serving, mirror).start()
    ready = run.wait_until("the server", lambda: [e for e in run.events() if e["event"] == "service.ready"], SECONDS)
    index = ["curl", "-sf", "-X", "POST", f"http://127.0.0.1:{ready[0]['ports']['http']}/v2/repository/index"]
    assert [(one["name"], one["state"]) for one in json.loads(run.host.run(index).stdout)] == [("scale", "READY")]
    run.joined().signal(SIGTERM)
    assert run.wait() == 143, run.story()
    run.nothing_left(allowed=("report.json", "events.jsonl", "logs", "trust.json"))

    mirror.alter()
    refused = signed(serving, mirror)
    assert refused.run(SECONDS) == 68, refused.story()
    assert refused.failure()["code"] == "artifact.digest"
    assert "service.starting" not in [event["event"] for event in refused.events()]
    refused.nothing_left(allowed=("report.json", "events.jsonl", "logs", "trust.json"))


def test_a_model_that_cannot_be_loaded_is_named_with_the_servers_own_reason(
    serving: Callable[..., PilotRun],
) -> None:
    run = serving(repository="broken", required=True)
    assert run.run(SECONDS) != 0
    message = run.failure()["message"]
    assert "failed to load 'wrong' version 1: " in message
    assert "No module named 'a_library_that_is_not_there'" in message
    run.nothing_left()


def test_jobs_get_right_answers_from_a_server_that_is_killed_and_started_again(
    serving: Callable[..., PilotRun], jobs: Jobs, grid: Grid
) -> None:
    served = serving()
    with Progress() as progress:
        story = play(grid, jobs, served, COUNT, progress)
    assert story.problems() == []
    assert (story.ad["TritonVersion"], story.ad["HasTriton"]) == ("2.51.0", True)
    assert (story.ad["TritonOnGPU"], story.ad["TritonGpuModels"]) == (False, "")
    assert {type(story.ad[name]) for name in ("TritonHttpPort", "TritonGrpcPort")} == {int}
    assert [check["status"] for check in story.report["checks"] if check["name"] == "triton repository"] == ["pass"]
    assert "right answers" in account(story, terminal_width())
    served.nothing_left()
