"""The figure of the probe stage: all probes together against the slowest of them alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from benchmarks.figures import Figure, Goal, Samples
from benchmarks.node import HOME, PYZ, MeasurementError, Place
from tests.testbed.trees import PILOT

ROUNDS = 20
WARMUP = 2
LEAST = ("/usr/bin/python3", "-I", "-S", "-c", "pass")
GOAL = 12


def measure(place: Place, say: Callable[[str], None]) -> list[Figure]:
    """What running all probes costs beyond the slowest one alone, in starts of the least that Python can do.

    `pilot.pyz probe --json` as the pilot's account on wn1, no endpoint configured; the times are those of the report's
    timeline. Raises MeasurementError when it fails.
    """
    for _ in range(WARMUP):
        names = [entry["what"] for entry in _timeline(place) if entry["what"] != "stage"]
    alone = {name: _stage(_timeline(place, name)) for name in names}
    slowest = max(names, key=lambda name: alone[name])
    stages: list[float] = []
    beyond: list[float] = []
    least: list[float] = []
    for number in range(ROUNDS):
        stage, single = _stage(_timeline(place)), _stage(_timeline(place, slowest))
        stages.append(stage)
        beyond.append(max(stage - single, 0.0))
        least.append(place.time_commands([LEAST], rounds=1, warmup=0).seconds[0][0])
        say(f"probes {number + 1}/{ROUNDS}: all {stage:.3f} s, {slowest} alone {single:.3f} s")
    return [
        Figure(
            "probes",
            "s",
            Samples(f"all {len(names)} probes minus {slowest} alone", tuple(beyond)),
            Samples(" ".join(LEAST), tuple(least)),
            Goal(GOAL, "ratio"),
            method="probe stage of `pilot.pyz probe --json` on wn1, from the report's timeline, alternating",
            beside={"probe stage": median(stages)},
            parts=dict(sorted(alone.items(), key=lambda item: -item[1])),
        )
    ]


def _stage(timeline: list[Mapping[str, Any]]) -> float:
    return next(float(entry["seconds"]) for entry in timeline if entry["what"] == "stage")


def _timeline(place: Place, *names: str) -> list[Mapping[str, Any]]:
    done = place.worker.run([PYZ, "probe", "--json", *names], user=PILOT.name, cwd=HOME)
    if done.returncode != 0:
        raise MeasurementError(f"probe failed: {done.stderr.strip()}")
    return [entry for entry in json.loads(done.stdout)["timeline"] if entry["stage"] == "probe"]
