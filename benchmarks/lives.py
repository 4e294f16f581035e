"""Figures of whole lives of idle pilots: start, processes, slot ad, stop. All come from the same rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks import life
from benchmarks.figures import Figure, Goal, Samples
from benchmarks.node import BARE_APPTAINER, NOTHING, Place

BACKGROUND_SECONDS = 2.0
# Short commands are run a few times in a round, and their median is the round's value.
REPEATED = 3
MOST_PROCESSES = 110
MOST_PROCESSES_PER_IMAGE = 45
PROVEN_IMAGES = 1


@dataclass(frozen=True, slots=True)
class Round:
    """What one round measured, in seconds and numbers of processes."""

    nothing: float
    apptainer: float
    apptainer_processes: float
    background: float
    start: float
    machine_processes: float
    node_processes: float
    slot_ad: float
    hand_slot_ad: float
    stop: float


def measure(place: Place, rounds: int, wanted: Sequence[str], say: Callable[[str], None]) -> list[Figure]:
    """Run the rounds and return the figures that are wanted, after one round that does not count."""
    with_hand = "slot-ad" in wanted
    one_round(place, -1, with_hand)
    done: list[Round] = []
    for turn in range(rounds):
        one = one_round(place, turn, with_hand)
        done.append(one)
        say(
            f"round {turn + 1}/{rounds}: start {one.start:.3f} s ({one.start / one.apptainer:.1f} apptainer), "
            f"{one.node_processes:.0f} processes, slot ad {one.slot_ad:.3f} s (by hand {one.hand_slot_ad:.3f} s), "
            f"stop {one.stop:.3f} s"
        )
    return [figure for figure in figures(done) if figure.name in wanted]


def one_round(place: Place, turn: int, with_hand: bool) -> Round:
    """Peers and pilot, every second round in the other order; HTCondor by hand only `with_hand`."""
    by_hand = life.hand_slot_ad(place, turn) if with_hand and turn % 2 else 0.0
    timed = place.time_commands([NOTHING, BARE_APPTAINER], rounds=REPEATED, warmup=1)
    rate = life.background_rate(BACKGROUND_SECONDS)
    with life.pilot(place) as started:
        slot_ad = place.slot_ad(started.master.wall) - started.master.wall
        time.sleep(life.SETTLE_SECONDS)
        stop = life.stop(place, started)
    if with_hand and not turn % 2:
        by_hand = life.hand_slot_ad(place, turn)
    return Round(
        nothing=statistics.median(timed.seconds[0]),
        apptainer=statistics.median(timed.seconds[1]),
        apptainer_processes=statistics.median(timed.processes[1]),
        background=rate * started.seconds,
        start=started.seconds,
        machine_processes=started.machine_processes,
        node_processes=started.node_processes,
        slot_ad=slot_ad,
        hand_slot_ad=by_hand,
        stop=stop,
    )


def figures(done: Sequence[Round]) -> list[Figure]:
    """All figures of these rounds; that of the slot ad only when its peer was measured."""
    beside = {
        "python3 -c pass": statistics.median(one.nothing for one in done),
        "apptainer exec": statistics.median(one.apptainer for one in done),
    }
    made = [_start(done, beside), _processes(done), _stop(done, beside)]
    return [*made, _slot_ad(done, beside)] if all(one.hand_slot_ad for one in done) else made


def _start(done: Sequence[Round], beside: dict[str, float]) -> Figure:
    return Figure(
        "start",
        "s",
        Samples("pilot.pyz run to condor_master", tuple(one.start for one in done)),
        Samples("bare apptainer exec", tuple(one.apptainer for one in done)),
        Goal(15, "ratio"),
        method="from the kernel's opening of pilot.pyz to that of condor_master (inotify), on wn1 as user pilot with "
        "one image proven; the peer runs /bin/true in the same image",
        beside=beside,
    )


def _processes(done: Sequence[Round]) -> Figure:
    """The count within the node, and the whole machine's for comparison.

    Both counters count the same events, processes and threads; the machine's also counts everybody else's, and taking
    off what it counted in the two seconds before leaves whatever changed meanwhile.
    """
    net = [one.machine_processes - one.background for one in done]
    return Figure(
        "start-processes",
        "processes",
        Samples("made between the two moments of `start`", tuple(one.node_processes for one in done)),
        Samples("bare apptainer exec", tuple(one.apptainer_processes for one in done)),
        goal=Goal(MOST_PROCESSES + MOST_PROCESSES_PER_IMAGE * PROVEN_IMAGES),
        method="the process number of condor_master less that of the guardian in the node's own PID namespace, which "
        "gives them out in order to processes and threads; `machine` is the difference of `processes` in /proc/stat "
        f"less `background`, the machine's rate in the {BACKGROUND_SECONDS:g} s before each start, and agrees on an "
        "otherwise idle machine",
        parts={"machine": statistics.median(net), "background": statistics.median(one.background for one in done)},
    )


def _slot_ad(done: Sequence[Round], beside: dict[str, float]) -> Figure:
    return Figure(
        "slot-ad",
        "s",
        Samples("condor_master to slot ad", tuple(one.slot_ad for one in done)),
        Samples("HTCondor by hand", tuple(one.hand_slot_ad for one in done)),
        Goal(1.2, "ratio"),
        method="from the kernel's opening of condor_master (inotify) to the collector's own time of the first slot ad "
        "(CollectorLog with D_FULLDEBUG and D_SUB_SECOND); the peer is benchmarks/hand_condor.conf",
        beside=beside,
    )


def _stop(done: Sequence[Round], beside: dict[str, float]) -> Figure:
    return Figure(
        "stop",
        "s",
        Samples("SIGTERM to the end of an idle pilot", tuple(one.stop for one in done)),
        goal=Goal(0.5),
        method="from SIGTERM to the guardian until the guardian is gone (pidfd); a process, workspace or runtime that "
        "is left then makes the measurement fail",
        beside=beside,
    )
