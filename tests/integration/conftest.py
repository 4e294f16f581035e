"""The grid, its payloads, and pilots that are ended whatever a test did."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests import outcomes
from tests.testbed.fixtures import grid, pytest_collection_modifyitems, testbed_machine
from tests.testbed.grid import Grid
from tests.testbed.neighbours import Watch
from tests.testbed.pilots import PilotRun, install_payload
from tests.testbed.user_jobs import Job, Jobs

__all__ = ["grid", "pytest_collection_modifyitems", "testbed_machine"]

BUILT = Path(os.environ.get("PILOT_TEST_PAYLOADS", Path(__file__).resolve().parents[2] / "build"))

POOL_LOGS = ("NegotiatorLog", "SchedLog")
LOG_END_BYTES = 30_000

StartPilot = Callable[..., PilotRun]
"""`PilotRun`'s arguments but for the token, which is a good one unless `token` says otherwise."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed shows what the user pool did meanwhile: why a job was not matched or started stands there."""
    report = yield
    grid = getattr(item, "funcargs", {}).get("grid")
    if report.when == "call" and report.failed and isinstance(grid, Grid):
        for name in POOL_LOGS:
            path = grid.pool.path(f"/var/log/condor/{name}")
            text = path.read_bytes()[-LOG_END_BYTES:].decode("utf-8", "replace") if path.is_file() else "no such file"
            report.sections.append((name, text))
    return report


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Working directory and environment stay as they were. The grid's daemons come and go, so children do not count."""
    environment, directory = dict(os.environ), os.getcwd()
    yield
    for variables in (environment, now := dict(os.environ)):
        variables.pop("PYTEST_CURRENT_TEST", None)
    assert now == environment
    assert os.getcwd() == directory


@pytest.fixture(scope="session")
def watch(grid: Grid) -> Watch:
    """What is on the worker nodes before the first test."""
    return Watch(grid)


@pytest.fixture(scope="module", autouse=True)
def nodes_are_left_as_they_were(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a module leaves on a worker node is told at the end of the session, with the test it came with."""
    watch = _watch(request)
    yield
    if watch is not None and watch.last is not None:
        told = watch.left_by(request.node.nodeid)
        watch.last.user_properties += [(outcomes.LEFT, trace) for trace in told]


@pytest.fixture(autouse=True)
def what_comes_has_a_name(request: pytest.FixtureRequest) -> Iterator[None]:
    """Looks at the worker nodes after each test."""
    watch = _watch(request)
    yield
    if watch is not None:
        watch.look_after(request.node)


def _watch(request: pytest.FixtureRequest) -> Watch | None:
    """None where no test of this module uses the grid that all share: some modules have one of their own."""
    module = request.node.getparent(pytest.Module)
    tests = (item for item in request.session.items if item.getparent(pytest.Module) is module)
    used = any("grid" in getattr(test, "fixturenames", ()) for test in tests)
    own = hasattr(getattr(module, "obj", None), "grid")
    return request.getfixturevalue("watch") if used and not own else None


@pytest.fixture(scope="session")
def payload(grid: Grid) -> Path:
    """The payloads are on both worker nodes."""
    for host in grid.workers:
        install_payload(host, BUILT)
    return BUILT


@pytest.fixture(scope="session")
def good_token(grid: Grid) -> str:
    """A token with which pilots may join the user pool."""
    return grid.token()


@pytest.fixture
def pilot(grid: Grid, payload: Path, good_token: str) -> Iterator[StartPilot]:
    """Makes pilots (not yet started) and destroys them at the end."""
    made: list[PilotRun] = []

    def make(*arguments: object, token: str | None = good_token, host: str = "wn1", **options: object) -> PilotRun:
        run = PilotRun(grid.hosts[host], token, *arguments, **options)  # type: ignore[arg-type]
        made.append(run)
        return run

    yield make
    for run in made:
        run.destroy()


@pytest.fixture
def jobs(grid: Grid) -> Iterator[Jobs]:
    """Submits user jobs; what is left of them is removed at the end."""
    queue = _Remembering(grid)
    yield queue
    for job in queue.made:
        job.remove()


class _Remembering(Jobs):
    def __init__(self, grid: Grid) -> None:
        super().__init__(grid)
        self.made: list[Job] = []

    def submit(self, text: str, *, pilot: PilotRun | str | None, count: int = 1) -> Job:
        job = super().submit(text, pilot=pilot, count=count)
        self.made.append(job)
        return job
