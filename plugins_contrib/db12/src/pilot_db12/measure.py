"""The DIRAC fast benchmark of 2012 (DB12), derived from its published description.

One iteration draws 12.5 million normally distributed numbers (mean 10, standard deviation 1) with
``random.normalvariate`` and keeps, twice, their sum and the sum of their squares. The first iteration warms the
processor up and is not counted. The norm is 250 for each counted iteration and CPU second. It is a measure of the
interpreter as much as of the processor: scores of different versions of Python must not be compared.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import random
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

DRAWS = 12_500_000
NORM = 250.0
MEAN, DEVIATION = 10, 1
BELIEVED_DEVIATIONS = 8.0
"""By so many standard errors the draws' mean may be off: a healthy processor reaches that in no lifetime."""
ANSWER_BYTES = 4096


class DrawsError(RuntimeError):
    """The numbers drawn cannot be: the processor or the interpreter miscalculates. Or a copy did not answer."""


@dataclass(frozen=True, slots=True)
class Timing:
    """CPU and wall-clock seconds of the counted iterations, and the norm of each of them."""

    cpu_seconds: float
    wall_seconds: float
    norms: tuple[float, ...]

    @property
    def norm(self) -> float:
        """250 for each counted iteration and CPU second."""
        return NORM * len(self.norms) / self.cpu_seconds


@dataclass(frozen=True, slots=True)
class Copies:
    """What copies that ran at the same time scored."""

    norms: tuple[float, ...]

    @property
    def total(self) -> float:
        """The score of all cores together."""
        return math.fsum(self.norms)

    @property
    def mean(self) -> float:
        """Arithmetic."""
        return statistics.fmean(self.norms)

    @property
    def median(self) -> float:
        """What the copy in the middle scored."""
        return statistics.median(self.norms)


def work(draws: int) -> float:
    """Spend one iteration; how many standard errors the mean of the draws is from where it belongs."""
    total = squares = total_again = squares_again = 0.0
    for _ in range(draws):
        drawn = random.normalvariate(MEAN, DEVIATION)
        total += drawn
        squares += drawn * drawn
        total_again += drawn
        squares_again += drawn * drawn
    if total != total_again or squares != squares_again:
        raise DrawsError("the same sum was calculated twice with different results: the processor miscalculates")
    return (total / draws - MEAN) * math.sqrt(draws) / DEVIATION


def measure(iterations: int, draws: int = DRAWS, *, warm_up: bool = True) -> Timing:
    """Warm up, then time ``iterations``. With fewer ``draws`` than ``DRAWS``, or cold, the norm is no DB12.

    Raises ``DrawsError`` when the numbers are wrong, and ``ValueError`` for no iteration.
    """
    if iterations < 1 or draws < 1:
        raise ValueError("at least one iteration of one draw is needed")
    if warm_up:
        _require_believable(work(draws))
    began_wall, marks = time.monotonic(), [_cpu_seconds()]
    for _ in range(iterations):
        off = work(draws)
        marks.append(_cpu_seconds())
        _require_believable(off)
    wall = time.monotonic() - began_wall
    spent = [max(after - before, 1e-3) for before, after in itertools.pairwise(marks)]
    return Timing(max(marks[-1] - marks[0], 1e-3), wall, tuple(NORM / seconds for seconds in spent))


def measure_copies(processors: Sequence[int], iterations: int, draws: int = DRAWS) -> Copies:
    """The norm of a copy on each of ``processors``, all at the same time. Raises ``DrawsError`` when one of them does
    not answer, and ``OSError`` where no process can be started."""
    return Copies(tuple(_together(processors, lambda: measure(iterations, draws).norm)))


def _require_believable(off: float) -> None:
    if not abs(off) <= BELIEVED_DEVIATIONS:
        message = f"the mean of the draws is {off:.1f} standard errors from {MEAN}: the processor miscalculates"
        raise DrawsError(message)


def _cpu_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _together(processors: Sequence[int], function: Callable[[], float]) -> list[float]:
    """What ``function`` returns in a forked process on each processor; they begin together."""
    ready, go = os.pipe()
    running: list[tuple[int, int]] = []
    try:
        for processor in processors:
            running.append(_forked(processor, ready, go, function))
        os.close(go)
        go = -1
        return [_answer(number, answer) for number, (_, answer) in enumerate(running, 1)]
    finally:
        for descriptor in (ready, go, *(answer for _, answer in running)):
            if descriptor >= 0:
                os.close(descriptor)
        _end([pid for pid, _ in running])


def _forked(processor: int, ready: int, go: int, function: Callable[[], float]) -> tuple[int, int]:
    """A process that calls ``function`` when ``go`` is closed, and the descriptor of its answer."""
    answer, told = os.pipe()
    pid = os.fork()
    if pid:
        os.close(told)
        return pid, answer
    code = 1
    try:
        os.close(go)
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {processor})
        os.read(ready, 1)
        random.seed()
        os.write(told, json.dumps(function()).encode())
        code = 0
    except DrawsError as error:
        os.write(told, json.dumps(str(error)).encode())
    finally:
        os._exit(code)


def _answer(number: int, descriptor: int) -> float:
    said = b""
    while len(said) < ANSWER_BYTES and (piece := os.read(descriptor, ANSWER_BYTES)):
        said += piece
    found = json.loads(said) if said else "it ended without an answer"
    if not isinstance(found, float):
        raise DrawsError(f"copy {number}: {found}")
    return found


def _end(pids: Sequence[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)
