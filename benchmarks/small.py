"""Figures of the payload alone: how fast it starts, and its size."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.estimate import differences
from benchmarks.figures import Figure, Goal, Samples
from benchmarks.node import NOTHING, PYZ, RUNTIMES, SCRIPT, Place

ROUNDS = 40
WARMUP = 3
UNPACKINGS = 20
KEPT_RUNTIME = {"PILOT_AGENT_RUNTIME_DIR": RUNTIMES}


def version(place: Place) -> list[Figure]:
    """`pilot.pyz --version`, as a person types it, beside the least that Python can do."""
    timed = place.time_commands([(PYZ, "--version"), NOTHING], rounds=ROUNDS, warmup=WARMUP)
    ours, peer = timed.seconds
    return [
        Figure(
            "version",
            "s",
            Samples("pilot.pyz --version", tuple(ours)),
            Samples("python3 -c pass", tuple(peer)),
            Goal(3, "ratio"),
            method="wall time from posix_spawn to wait, on wn1 (Python 3.13), alternating",
        )
    ]


def first_start(place: Place) -> list[Figure]:
    """What it costs to unpack the Python that pilot.sh brings, to check it, and to remove it at the end."""
    timed = place.time_commands([(SCRIPT, "--version"), (PYZ, "--version"), NOTHING], rounds=UNPACKINGS, warmup=1)
    ours, peer, nothing = timed.seconds
    return [
        Figure(
            "first-start",
            "s",
            Samples("pilot.sh minus pilot.pyz", tuple(differences(ours, peer))),
            goal=Goal(1.0),
            method="per-round difference of `pilot.sh --version`, which unpacks its Python, checks and removes it, and "
            "`pilot.pyz --version`, wall time, on wn1, alternating",
            beside={"python3 -c pass": statistics.median(nothing)},
            parts={"pilot.sh": statistics.median(ours), "pilot.pyz": statistics.median(peer)},
        )
    ]


def second_start(place: Place) -> list[Figure]:
    """What it costs that pilot.sh brings its own Python, once that is unpacked on the node."""
    commands = [(SCRIPT, "--version"), (PYZ, "--version"), NOTHING]
    timed = place.time_commands(commands, rounds=ROUNDS, warmup=WARMUP, environment=KEPT_RUNTIME)
    ours, peer, nothing = timed.seconds
    more = differences(ours, peer)
    return [
        Figure(
            "second-start",
            "s",
            Samples("pilot.sh minus pilot.pyz", tuple(more)),
            goal=Goal(0.150),
            method="per-round difference of `pilot.sh --version` (runtime kept by a start before) and `pilot.pyz "
            "--version`, wall time, on wn1, alternating",
            beside={"python3 -c pass": statistics.median(nothing)},
            parts={"pilot.sh": statistics.median(ours), "pilot.pyz": statistics.median(peer)},
        )
    ]


def size(payloads: Path) -> list[Figure]:
    """Bytes of the two payload files."""
    return [
        Figure(
            f"size-{name.removeprefix('pilot.')}", "bytes", Samples(name, (float((payloads / name).stat().st_size),))
        )
        for name in ("pilot.pyz", "pilot.sh")
    ]
