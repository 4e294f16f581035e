"""Questions to the pool: in slices of bounded size, and what is read of an access point's ad."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from server_stub.frontend.query import MOST_SLICES, QueryError, access_point, closed, slices

ALL = range(1000)


class Queue:
    """Jobs 0 to 999 of one cluster; keeps how large the lists were that it gave."""

    def __init__(self) -> None:
        self.given: list[int] = []

    def __call__(self, constraint: str, most: int) -> list[int]:
        found = re.search(r"% (\d+) == (\d+)", constraint)
        of, part = (int(found[1]), int(found[2])) if found else (1, 0)
        chosen = [job for job in ALL if job % of == part][:most]
        self.given.append(len(chosen))
        return chosen


@pytest.mark.parametrize("expected", [0, 10, 999, 5000])
@pytest.mark.parametrize("size", [1, 7, 100, 600, 2000])
def test_every_job_comes_once_however_wrong_the_expectation_was(expected: int, size: int) -> None:
    queue = Queue()
    found = [job for part in slices(queue, "true", expected, size=size) for job in part]
    assert sorted(found) == list(ALL)
    assert max(queue.given) <= 2 * size


def test_an_access_point_that_never_ends_is_no_answer() -> None:
    asked = 0

    def endless(constraint: str, most: int) -> list[int]:
        nonlocal asked
        asked += 1
        return [1] * most

    with pytest.raises(QueryError):
        list(slices(endless, "true", 0, size=1))
    assert asked <= MOST_SLICES


@pytest.mark.parametrize(
    ("ad", "reason"),
    [
        ({}, ""),
        ({"CurbMatchmaking": True}, "curbs"),
        ({"CurbMatchmaking": False, "TotalRunningJobs": 94, "MaxJobsRunning": 100}, ""),
        ({"TotalRunningJobs": 95, "MaxJobsRunning": 100}, "95 jobs run of at most 100"),
        ({"TransferQueueNumUploading": 100, "TransferQueueMaxUploading": 100}, "uploads"),
        ({"TransferQueueNumUploading": 100, "TransferQueueMaxUploading": 0}, ""),
        ({"TotalRunningJobs": "many", "MaxJobsRunning": 1}, ""),
    ],
)
def test_an_access_point_at_its_own_limit_counts_as_closed(ad: dict[str, Any], reason: str) -> None:
    told = closed(ad)
    assert reason in told
    assert bool(told) == bool(reason)


def test_an_expression_in_the_ad_is_evaluated() -> None:
    classad2 = pytest.importorskip("server_stub.frontend.bindings").classad2()
    ad = classad2.ClassAd('[Name = "ap"; RecentLoad = 0.99; CurbMatchmaking = RecentLoad > 0.98; TotalIdleJobs = 3]')
    assert access_point(ad)["closed"] == "it curbs its matchmaking"
    assert access_point(ad)["idle"] == 3


def test_what_goes_wrong_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    question = {"kind": "jobs", "constraint": "true", "location": {}}
    for output in ("{}", "unused"):
        done = subprocess.run(
            [sys.executable, "-m", "server_stub.frontend.query", str(tmp_path / output)],
            input=json.dumps(question), capture_output=True, text=True, timeout=60, check=False,
            env={"CONDOR_CONFIG": "ONLY_ENV", "PYTHONPATH": ":".join(filter(None, sys.path))},
        )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr.strip()
        assert not list(tmp_path.iterdir())
