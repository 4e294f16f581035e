"""The command line: which figures to measure, one table at the end."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import TimeoutExpired

from benchmarks import (
    cvmfs_rungs,
    db12,
    factory,
    first_use,
    frontend,
    inference,
    isolation,
    job_rate,
    lives,
    memory,
    probing,
    proving,
    services,
    small,
    teardown,
    timeline,
)
from benchmarks.estimate import FEWEST_ROUNDS
from benchmarks.figures import Figure, table, write
from benchmarks.node import PAYLOADS, REPOSITORY, MeasurementError, place
from tests.testbed import prerequisites
from tests.testbed.command import CommandError
from tests.testbed.namespaces import StartError

LIVES = ("start", "start-processes", "slot-ad", "stop")
NAMES = (
    "version",
    "first-start",
    "second-start",
    "probes",
    isolation.NAME,
    "proving",
    *LIVES,
    "first-use-hook",
    *job_rate.NAMES,
    "teardown",
    *cvmfs_rungs.NAMES,
    inference.NAME,
    services.NAME,
    "memory",
    "size",
)
PROFILE = "profile"
DB12 = "db12"
"""Only by its name: it takes what it compares with from PyPI."""
FRONTEND = "frontend"
"""Only by its name: it needs no pilot, and a GiB of memory."""
BY_NAME = (DB12, FRONTEND, *factory.NAMES)
ALONE = {"size", DB12, FRONTEND, *factory.NAMES}
"""What is measured without the testbed."""
FAILURES = (MeasurementError, CommandError, StartError, prerequisites.PrerequisiteError, OSError, TimeoutExpired)


def main(arguments: Sequence[str]) -> int:
    """Measure; 0, 1 with a message when something could not be measured, 3 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks/run.py", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"{', '.join(NAMES)} (default: these), {', '.join(BY_NAME)} or {PROFILE}",
    )
    parser.add_argument("--rounds", type=int, default=FEWEST_ROUNDS, help="rounds with a pilot (default and least: 10)")
    parser.add_argument("--payloads", type=Path, default=PAYLOADS, help="directory of pilot.pyz and pilot.sh")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - {*NAMES, *BY_NAME, PROFILE})
    if unknown:
        parser.error(f"no figure {', '.join(unknown)}; there are {', '.join((*NAMES, *BY_NAME, PROFILE))}")
    if options.rounds < FEWEST_ROUNDS:
        parser.error(f"--rounds must be at least {FEWEST_ROUNDS}")
    wanted = options.names or NAMES
    # A request to end unwinds the blocks that take the grid down.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    kept = Kept(options.payloads / "bench")
    try:
        _measure(wanted, options.rounds, options.payloads, kept)
    except FAILURES as error:
        kept.fail("the testbed", error)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    if kept.figures:
        print("\n" + table(kept.figures))
    if kept.failed:
        return 1
    return 3 if any(figure.met() is False for figure in kept.figures) else 0


def _measure(wanted: Sequence[str], rounds: int, payloads: Path, kept: Kept) -> None:
    """Measure the figures one after the other; what one of them lacks does not keep the others from being measured."""
    if "size" in wanted:
        kept.add("size", lambda: small.size(payloads))
    if DB12 in wanted:
        kept.add(DB12, lambda: db12.measure(payloads / "bench", rounds, _say))
    if FRONTEND in wanted:
        kept.add(FRONTEND, lambda: frontend.measure(rounds, _say))
    for part in factory.wanted(wanted):
        kept.add(part, lambda part=part: factory.PARTS[part](rounds, _say))  # type: ignore[misc]
    if set(wanted) <= ALONE:
        return
    prerequisites.require()
    with place(payloads) as where:
        if PROFILE in wanted:
            print(timeline.profile(where))
        for names, what, measure in (
            (("version",), "version", lambda: small.version(where)),
            (("first-start",), "first-start", lambda: small.first_start(where)),
            (("second-start",), "second-start", lambda: small.second_start(where)),
            (("probes",), "probes", lambda: probing.measure(where, _say)),
            ((isolation.NAME,), "isolation", lambda: isolation.measure(where, _say)),
            (("proving",), "proving", lambda: proving.measure(where, rounds, _say)),
            (("first-use-hook",), "first-use hook", lambda: first_use.measure(where, rounds, _say)),
            (job_rate.NAMES, "job rate", lambda: job_rate.measure(where, rounds, _say)),
            (LIVES, "whole lives", lambda: lives.measure(where, rounds, wanted, _say)),
            (("teardown",), "teardown", lambda: teardown.measure(where, rounds, _say)),
            (cvmfs_rungs.NAMES, "ways to CVMFS", lambda: cvmfs_rungs.measure(where, rounds, _say)),
            ((inference.NAME,), "inference", lambda: inference.measure(where, rounds, _say)),
            ((services.NAME,), "services", lambda: services.measure(where, rounds, _say)),
            (("memory",), "memory", lambda: memory.measure(where, rounds, _say)),
        ):
            if set(names) & set(wanted):
                kept.add(what, measure)


class Kept:
    """The figures so far; each is written to `directory` at once. `failed` tells whether one could not be measured."""

    def __init__(self, directory: Path) -> None:
        self.figures: list[Figure] = []
        self.failed = False
        self._directory = directory
        self._origin = commit()
        self._machine = machine()

    def add(self, what: str, measure: Callable[[], Sequence[Figure]]) -> None:
        """Measure and keep; a failure is said and remembered."""
        try:
            measured = measure()
        except FAILURES as error:
            self.fail(what, error)
            return
        for figure in measured:
            write(figure, self._directory, self._origin, self._machine)
            self.figures.append(figure)

    def fail(self, what: str, error: BaseException) -> None:
        """Say why something could not be measured."""
        self.failed = True
        print(f"benchmarks: {what}: {error}", file=sys.stderr)


def commit() -> str:
    """The commit that was measured, with `+` when the tree differs from it."""
    head = _git("rev-parse", "--short", "HEAD")
    return head + ("+" if _git("--no-optional-locks", "status", "--porcelain") else "")


def machine() -> dict[str, object]:
    """What the figures depend on."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
    load = round(os.getloadavg()[0], 2)
    return {"cores": os.cpu_count(), "cpu": model, "kernel": platform.release(), "load_before": load}


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", str(REPOSITORY), *words], check=False, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
