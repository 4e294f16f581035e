"""The figures of short jobs in containers: the pilot's startd against HTCondor configured by hand."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import life
from benchmarks.figures import Figure, Goal, Samples
from benchmarks.node import HOME, MeasurementError, Place, put
from tests.testbed.user_jobs import Job, Jobs

NAMES = ("job-rate", "job-rate-untested")
JOBS = 100
# The first jobs find their claims; they do not count.
FIRST = 4
LONGEST_SECONDS = 240.0
POLL_SECONDS = 0.02
CONTAINERS = Path(__file__).with_name("hand_containers.conf").read_text(encoding="utf-8")
UNTESTED = CONTAINERS + "SINGULARITY_RUN_TEST_BEFORE_JOB = False\n"
TERMINATED = 5
LAYER = f"{HOME}/no-broker.json"


@dataclass(frozen=True, slots=True)
class Taken:
    """What the jobs of one round took together: time, and CPU time of all that the pilot's account runs on the node."""

    seconds: float
    cpu_seconds: float


def measure(place: Place, rounds: int, say: Callable[[str], None]) -> list[Figure]:
    """Seconds for 100 jobs of `/bin/true` in one image on a slot of two cores, by each of three startds in turn.

    Raises MeasurementError when jobs do not end.
    """
    # HTCondor's defaults have no connection broker, with which every starter would register.
    put(place.worker, LAYER, json.dumps({"pool": {"ccb": False}}).encode(), 0o644)
    sides: dict[str, Callable[[int], Taken]] = {
        "pilot": lambda turn: _by_pilot(place),
        "tested": lambda turn: _by_hand(place, f"tested{turn}", CONTAINERS),
        "untested": lambda turn: _by_hand(place, f"untested{turn}", UNTESTED),
    }
    taken: dict[str, list[Taken]] = {name: [] for name in sides}
    for turn in range(rounds):
        order = list(sides) if turn % 2 == 0 else list(sides)[::-1]
        for name in order:
            taken[name].append(sides[name](turn))
        told = (f"{name} {taken[name][-1].seconds:.2f} s (CPU {taken[name][-1].cpu_seconds:.2f})" for name in sides)
        say(f"round {turn + 1}/{rounds}: " + ", ".join(told))
    return [
        _figure("job-rate", taken["pilot"], taken["tested"], "HTCondor by hand, which tests the image", 1 / 1.1),
        _figure("job-rate-untested", taken["pilot"], taken["untested"], "the same without its test", 1.0),
    ]


def _figure(name: str, ours: Sequence[Taken], theirs: Sequence[Taken], peer: str, most: float) -> Figure:
    return Figure(
        name,
        "s",
        Samples(f"{JOBS} jobs by the pilot's startd", _seconds(ours)),
        Samples(peer, _seconds(theirs)),
        Goal(most, "ratio"),
        method=f"from the end of job {FIRST} to that of job {FIRST + JOBS} of one cluster, seen in its event log every "
        f"{POLL_SECONDS * 1000:g} ms; /bin/true in /images/debian13 on wn1 with two cores; the peer is "
        "benchmarks/hand_condor.conf with hand_containers.conf; no connection broker (CCB) on either side",
        parts={
            "pilot's jobs per minute": 60 * JOBS / statistics.median(_seconds(ours)),
            "pilot's CPU seconds per job": _cpu_per_job(ours),
            "peer's CPU seconds per job": _cpu_per_job(theirs),
        },
    )


def _seconds(rounds: Sequence[Taken]) -> tuple[float, ...]:
    return tuple(one.seconds for one in rounds)


def _cpu_per_job(rounds: Sequence[Taken]) -> float:
    return statistics.median(one.cpu_seconds for one in rounds) / JOBS


def _by_pilot(place: Place) -> Taken:
    with life.pilot(place, "--config", f"vo={LAYER}") as started:
        taken = _run_jobs(place, "TARGET.IS_GLIDEIN =?= true")
        life.stop(place, started)
    return taken


def _by_hand(place: Place, name: str, lines: str) -> Taken:
    with life.by_hand(place, name, lines):
        return _run_jobs(place, f'regexp("@{name}@", TARGET.Name)')


def _run_jobs(place: Place, requirement: str) -> Taken:
    # Without a list of files to bring home HTCondor's starter sleeps a second before each job, on either side, and the
    # figure would be mostly that.
    text = f'executable = /bin/true\ntransfer_output_files = ""\nrequirements = {requirement}\n'
    job = Jobs(place.grid).submit(text, pilot=None, count=FIRST + JOBS)
    try:
        began, spent = _end_of(job, FIRST), place.spent_seconds()
        seconds = _end_of(job, FIRST + JOBS) - began
        return Taken(seconds, place.spent_seconds() - spent)
    finally:
        job.remove()


def _end_of(job: Job, number: int) -> float:
    until = time.monotonic() + LONGEST_SECONDS
    while job.events(TERMINATED) < number:
        if time.monotonic() > until:
            raise MeasurementError(
                f"{job.events(TERMINATED)} of {number} jobs ended in {LONGEST_SECONDS:g} s: {job.log}"
            )
        time.sleep(POLL_SECONDS)
    return time.monotonic()
