"""HTCondor's bindings, as the factory uses them, with access points of the oldest and the newest release."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.needs import need
from tests.testbed import prerequisites, trees
from tests.testbed.access_points import NEWEST, RELEASES, STABLE, AccessPoints
from tests.testbed.runs import run_directory

PATIENCE_SECONDS = 60.0
LEAST = {STABLE: (23, 9), NEWEST: (25, 0)}
TREE = trees.NEWEST_HTCONDOR.name
"""What `PILOT_TEST_SKIP` names to save the minute in which that tree is built."""
SUBMIT = """
import pathlib
common = 'universe = local\\nexecutable = /bin/{}\\narguments = 600\\nhold = {}\\nMy.PilotFactory = "f"\\nqueue 1\\n'
paths = []
for number, (program, hold) in enumerate([("true", False), ("sleep", False), ("sleep", True)]):
    paths.append(f"/home/factory/{number}.sub")
    pathlib.Path(paths[-1]).write_text(common.format(program, hold))
pathlib.Path("/home/factory/bad.sub").write_text("universe = local\\nqueue 1\\n")
*made, refused = htcondor.submit_all([*paths, "/home/factory/bad.sub"])
answer = {"jobs": [str(job) for job in made], "refused": refused.failure.message}
"""
JOBS = """
from server_stub.factory.pilots import JobId
jobs = [JobId(*map(int, text.split("."))) for text in {jobs!r}]
"""
QUEUE = 'answer = {str(job): told.state.value for job, told in htcondor.queue("f").items()}'
HISTORY = "answer = {str(job): [told.state.value, told.exit_code] for job, told in htcondor.ended(jobs).items()}"
VERSIONS = "from server_stub.condor.asking import ask\nanswer = htcondor._ask('versions')"


@pytest.fixture(scope="module")
def access_points(testbed_machine: None) -> Iterator[AccessPoints]:
    """A schedd of each release."""
    releases = [release for release in RELEASES if release != NEWEST or TREE not in prerequisites.skipped()]
    with run_directory() as directory, AccessPoints(directory, releases) as running:
        yield running


def number(version: str) -> tuple[int, ...]:
    """The first two parts of a version as HTCondor tells it."""
    return tuple(int(part) for part in re.findall("[0-9]+", version)[:2])


def wait_for(access_points: AccessPoints, release: str, code: str, expected: Any) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while (answer := access_points.ask(release, code)) != expected:
        assert time.monotonic() < until, answer
        time.sleep(0.2)


@pytest.mark.parametrize("release", RELEASES)
def test_jobs_are_submitted_seen_released_removed_and_found_again(access_points: AccessPoints, release: str) -> None:
    need(TREE, release in access_points.hosts, "let the testbed build the tree")
    versions = access_points.ask(release, VERSIONS)
    assert number(versions["schedd"]) >= LEAST[release]
    assert number(versions["bindings"]) >= LEAST[NEWEST]
    told = access_points.ask(release, SUBMIT)
    assert "executable" in told["refused"].lower()
    short, long, held = told["jobs"]
    jobs = JOBS.format(jobs=told["jobs"])
    wait_for(access_points, release, QUEUE, {long: "running", held: "held"})
    assert access_points.ask(release, f"{jobs}answer = htcondor.release(jobs[2:], 'mended')") == 1
    wait_for(access_points, release, QUEUE, {long: "running", held: "running"})
    assert access_points.ask(release, f"{jobs}answer = htcondor.remove(jobs[1:], 'too many')") == 2
    wait_for(access_points, release, QUEUE, {})
    ended = {short: ["ended", 0], long: ["removed", None], held: ["removed", None]}
    wait_for(access_points, release, jobs + HISTORY, ended)
