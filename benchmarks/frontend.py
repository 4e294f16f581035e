"""The figure of the frontend: one decision cycle over a million idle jobs, and how it grows."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.figures import Figure, Goal, Samples
from benchmarks.node import REPOSITORY, MeasurementError

JOBS, SLOTS, ENTRIES = 1_000_000, 100_000, 1000
DOUBLINGS = 3
SMALLER_ROUNDS = 3
LONGEST_SECONDS = 1800.0
MOST_SECONDS = 5.0
MOST_MIB = 1536.0


def measure(rounds: int, say: Callable[[str], None]) -> list[Figure]:
    """Seconds and memory of a cycle. Raises MeasurementError."""
    whole = _cycles(JOBS, SLOTS, rounds)
    say(f"{JOBS} jobs: {_median(whole):.2f} s, {whole['peak_mib']:.0f} MiB")
    parts = {name: statistics.median(each[name] for each in whole["rounds"]) for name in whole["rounds"][0]}
    del parts["seconds"]
    medians = {JOBS: _median(whole)}
    for halved in range(1, DOUBLINGS + 1):
        jobs = JOBS >> halved
        medians[jobs] = _median(_cycles(jobs, SLOTS >> halved, SMALLER_ROUNDS))
        say(f"{jobs} jobs: {medians[jobs]:.2f} s")
    growth = {
        f"from {jobs} to {2 * jobs} jobs, times": medians[2 * jobs] / medians[jobs] for jobs in sorted(medians)[:-1]
    }
    method = (
        f"one process, {JOBS} idle jobs of 5,000 submissions at 10 access points as the tuples that a JobReader makes "
        f"of the projected ads, {SLOTS} slots as HTCondor's own ads, {ENTRIES} entries; columns, groups, matching with "
        "policy and the jobs' requirements, supply, shares, requests; nothing kept from one round to the next; half as "
        "many jobs and slots for each line of growth"
    )
    reading = {"ads to records, seconds per million jobs (in the queries, not part of the cycle)": whole["reading"]}
    beside = {f"{jobs} jobs": median for jobs, median in sorted(medians.items())}
    return [
        Figure(
            "frontend",
            "s",
            Samples("decision cycle", tuple(each["seconds"] for each in whole["rounds"])),
            goal=Goal(MOST_SECONDS),
            method=method,
            beside=beside,
            parts=parts | growth | reading,
        ),
        Figure(
            "frontend-memory",
            "MiB",
            Samples("peak of the process, the answers of the queries included", (whole["peak_mib"],)),
            goal=Goal(MOST_MIB),
            method=method,
            parts={"answers before the first cycle": whole["answers_mib"]},
        ),
    ]


def _cycles(jobs: int, slots: int, rounds: int) -> Any:
    command = [sys.executable, "-m", "benchmarks.frontend_cycle", *map(str, (jobs, slots, ENTRIES, rounds))]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False
    )
    if done.returncode != 0:
        raise MeasurementError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-500:]}")
    return json.loads(done.stdout)


def _median(cycles: Any) -> float:
    return float(statistics.median(each["seconds"] for each in cycles["rounds"]))
