"""The figure of the image proofs: a dictionary of six local images against six bare runs of the runtime."""

from __future__ import annotations

import json
from collections.abc import Callable

from benchmarks.figures import Figure, Goal, Samples
from benchmarks.node import CONFIGURATION, HOME, IMAGE, PYZ, MeasurementError, Place, put
from tests.testbed.trees import PILOT

IMAGES = 6
PATH = f"{HOME}/proving.json"
# One after the other, as today's pilots do it.
BARE = ("/bin/sh", "-c", " && ".join([f"/usr/bin/apptainer exec {IMAGE} /bin/true"] * IMAGES))
GOAL = 1.3


def measure(place: Place, rounds: int, say: Callable[[str], None]) -> list[Figure]:
    """The container stage of `check` with six platforms, each a directory of its own, against six bare runs.

    Raises MeasurementError when an image is not proven.
    """
    _prepare(place)
    ours: list[float] = []
    bare: list[float] = []
    for turn in range(-1, rounds):
        if turn % 2:
            plain = place.time_commands([BARE], rounds=1, warmup=0).seconds[0][0]
            proven = _container_stage(place)
        else:
            proven = _container_stage(place)
            plain = place.time_commands([BARE], rounds=1, warmup=0).seconds[0][0]
        if turn >= 0:
            ours.append(proven)
            bare.append(plain)
            say(f"proving {turn + 1}/{rounds}: {IMAGES} images {proven:.3f} s, {IMAGES} bare runs {plain:.3f} s")
    return [
        Figure(
            "proving",
            "s",
            Samples(f"container stage with {IMAGES} local images", tuple(ours)),
            Samples(f"{IMAGES} bare apptainer exec", tuple(bare)),
            Goal(GOAL, "ratio"),
            method="container stage of `pilot.pyz check --json` on wn1, from the report's timeline; the bare runs of "
            "/bin/true follow one another; alternating",
        )
    ]


def _prepare(place: Place) -> None:
    configuration = json.loads(place.worker.path(CONFIGURATION).read_text(encoding="utf-8"))
    for number in range(IMAGES):
        # The same files under another path: a path that was proven already would not be proven again.
        path = f"{HOME}/image{number}"
        copied = ["cp", "-al", f"{HOME}/image0", path] if number else ["cp", "-a", IMAGE, path]
        done = place.worker.run(copied, timeout_seconds=120)
        if done.returncode != 0:
            raise MeasurementError(f"{path}: {done.stderr.strip()}")
        configuration.setdefault("images", {})[f"image{number}"] = [{"path": path}]
    del configuration["images"]["debian13"]
    put(place.worker, PATH, json.dumps(configuration).encode(), 0o644)


def _container_stage(place: Place) -> float:
    command = [PYZ, "check", "--json", "--config", f"factory={PATH}"]
    done = place.worker.run(command, user=PILOT.name, cwd=HOME, timeout_seconds=120)
    report = json.loads(done.stdout or "{}")
    proven = [why for why in report.get("container", {}).get("why", []) if why["proven"]]
    if len(proven) != IMAGES:
        raise MeasurementError(f"{len(proven)} of {IMAGES} images were proven: {done.stderr.strip()}")
    return next(
        float(entry["seconds"])
        for entry in report["timeline"]
        if entry["stage"] == "container" and entry["what"] == "stage"
    )
