"""A real Triton server beside the jobs of a real pilot: asked by jobs in containers, killed, and started again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.testbed.demo.account import terminal_width
from tests.testbed.demo.progress import Progress
from tests.testbed.grid import Grid
from tests.testbed.pilots import PilotRun
from tests.testbed.triton_demo import account, make_pilot, play
from tests.testbed.user_jobs import Jobs

COUNT = 3
SECONDS = 120.0


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
