"""The figure of a busy pilot's end: jobs, services and a FUSE mount, all of which go at once when they are told."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import life
from benchmarks.figures import Figure, Goal, Samples
from benchmarks.node import HOME, NOTHING, MeasurementError, Place, put
from pilot_agent.model import Json
from tests.testbed.user_jobs import Jobs

JOBS = 4
READY_SECONDS = 60.0
POLL_SECONDS = 0.05
REPEATED = 3
LONGEST_SECONDS = 5.0
EXECUTING = 1
PLUGINS = f"{HOME}/plugins"
LAYER = f"{HOME}/busy.json"
PLUGIN = Path(__file__).with_name("busy_plugin.py")


def measure(place: Place, rounds: int, say: Callable[[str], None]) -> list[Figure]:
    """Seconds from SIGTERM to the guardian of a busy pilot until nothing is left.

    Raises MeasurementError when the jobs do not start, or something is left.
    """
    _prepare(place)
    _one_round(place)
    ends, nothings = [], []
    for turn in range(rounds):
        timed = place.time_commands([NOTHING], rounds=REPEATED, warmup=1)
        nothings.append(statistics.median(timed.seconds[0]))
        ends.append(_one_round(place))
        say(f"round {turn + 1}/{rounds}: {ends[-1]:.3f} s (python3 -c pass {nothings[-1]:.3f} s)")
    return [
        Figure(
            "teardown",
            "s",
            Samples(f"SIGTERM to the end of a pilot with {JOBS} jobs, 2 services and a FUSE mount", tuple(ends)),
            goal=Goal(LONGEST_SECONDS),
            method="from SIGTERM to the guardian until the guardian is gone (pidfd), in the default configuration, "
            "with jobs of /bin/sleep in /images/debian13 on wn1; a process, workspace or runtime that is left then "
            "makes the measurement fail",
            beside={"python3 -c pass": statistics.median(nothings)},
        )
    ]


def _prepare(place: Place) -> None:
    worker = place.worker
    made = worker.run(["install", "-d", "-m", "755", PLUGINS], user="pilot")
    if made.returncode != 0:
        raise MeasurementError(f"{PLUGINS}: {made.stderr.strip()}")
    layer: dict[str, Json] = {"plugins": {"directories": [PLUGINS], "load": [PLUGIN.stem]}}
    # A job has one core of the slot, and a pilot offers no more cores than there are, but for those of such a resource.
    missing = JOBS - len(os.sched_getaffinity(0))
    if missing > 0:
        layer["startd"] = {"resource_slots": f"busy,{missing},type=extra"}
    put(worker, f"{PLUGINS}/{PLUGIN.name}", PLUGIN.read_bytes(), 0o644)
    put(worker, LAYER, json.dumps(layer).encode(), 0o644)


def _one_round(place: Place) -> float:
    text = "executable = /bin/sleep\narguments = 600\nrequirements = TARGET.IS_GLIDEIN =?= true\n"
    with life.pilot(place, "--config", f"site={LAYER}") as started:
        job = Jobs(place.grid).submit(text, pilot=None, count=JOBS)
        try:
            _wait(f"{JOBS} jobs", lambda: job.events(EXECUTING) >= JOBS)
            _wait(f"{JOBS} running programs", lambda: _running(place) >= JOBS)
            if not any("fuse" in mount.kind for mount in place.worker.mounts()):
                raise MeasurementError("the service mounted nothing")
            return life.stop(place, started)
        finally:
            job.remove()


def _running(place: Place) -> int:
    return sum(process.argv == ("/bin/sleep", "600") for process in place.worker.processes())


def _wait(what: str, condition: Callable[[], bool]) -> None:
    until = time.monotonic() + READY_SECONDS
    while not condition():
        if time.monotonic() > until:
            raise MeasurementError(f"no {what} in {READY_SECONDS:g} s")
        time.sleep(POLL_SECONDS)
