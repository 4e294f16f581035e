"""`python -m tests.chaos`: break pilots at points chosen by a seed; exit status 0 only if all survived.

Environment: CHAOS_SEED (default: a new one, printed), CHAOS_POINTS (60), CHAOS_ONLY (only these points:
fault@stage[:payload], separated by commas), CHAOS_LANES (pilots at a time).
"""

from __future__ import annotations

import argparse
import os
import queue
import secrets
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.chaos import account, choice, ledger, point, strikes
from tests.chaos.evidence import Evidence
from tests.chaos.ground import Ground
from tests.chaos.ledger import PointJob
from tests.chaos.programs import ProgramError
from tests.testbed import images, prerequisites, trees
from tests.testbed.command import CommandError
from tests.testbed.hosts import Host
from tests.testbed.namespaces import StartError
from tests.testbed.pilots import PilotError
from tests.testbed.prerequisites import PrerequisiteError
from tests.testbed.runs import run_directory

PROJECT = Path(__file__).resolve().parents[2]
DEFAULT_POINTS = 60
DEFAULT_LANES = 3
LONGEST_FIRST = ("rapid-jobs",)


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """0 when every point was survived with nothing left and no job lost, 1 when not, 2 for a wrong command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--payloads", type=Path, default=PROJECT / "build", help="directory of pilot.pyz and pilot.sh")
    parser.add_argument("--output", type=Path, default=PROJECT / "build" / "chaos", help="directory for the evidence")
    options = parser.parse_args(arguments)
    try:
        seed = int(environment.get("CHAOS_SEED") or secrets.randbelow(1_000_000))
        count = int(environment.get("CHAOS_POINTS") or DEFAULT_POINTS)
        lanes = int(environment.get("CHAOS_LANES") or DEFAULT_LANES)
        points = _points(seed, count, environment.get("CHAOS_ONLY", ""))
    except ValueError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 2
    try:
        prerequisites.require()
        return Suite(seed, points, max(1, min(lanes, len(points))), options.payloads, options.output).run()
    except (PrerequisiteError, ProgramError, CommandError, StartError, PilotError) as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _points(seed: int, count: int, only: str) -> list[choice.Point]:
    if only:
        return choice.named(seed, only)
    without = []
    if strikes.cgroup_root() is None:
        print("chaos: cgroup-kill is not among the points: no cgroup with cgroup.kill can be made on this machine")
        without.append("cgroup-kill")
    return choice.choose(seed, count, without=without)


class Suite:
    """One run: its points, its lanes, and what they showed."""

    def __init__(self, seed: int, points: list[choice.Point], lanes: int, payloads: Path, output: Path) -> None:
        self._seed = seed
        self._points = points
        self._lanes = lanes
        self._payloads = payloads
        self._output = output
        self._queue: queue.SimpleQueue[choice.Point] = queue.SimpleQueue()
        self._evidence: list[Evidence] = []
        self._jobs: dict[int, PointJob] = {}
        self._print = threading.Lock()

    def run(self) -> int:
        """Start the grid, run every point, wait for the jobs, tell it all."""
        began = time.monotonic()
        print(f"chaos: seed {self._seed}, {len(self._points)} points, {self._lanes} pilots at a time", flush=True)
        signal.signal(signal.SIGTERM, _interrupt)
        self._clear_output()
        trees.ensure()
        images.ensure()
        for one in sorted(self._points, key=_order):
            self._queue.put(one)
        with run_directory() as directory, Ground(directory, self._payloads, self._lanes) as ground:
            lanes = [threading.Thread(target=self._lane, args=(ground, node), daemon=True) for node in ground.nodes]
            for lane in lanes:
                lane.start()
            for lane in lanes:
                while lane.is_alive():
                    lane.join(1.0)
            self._wait_for_jobs()
        return self._tell(time.monotonic() - began)

    def _clear_output(self) -> None:
        self._output.mkdir(parents=True, exist_ok=True)
        for old in self._output.glob("*.json"):
            old.unlink()

    def _lane(self, ground: Ground, node: Host) -> None:
        while True:
            try:
                next_point = self._queue.get_nowait()
            except queue.Empty:
                return
            evidence, job = point.run(ground, node, next_point, self._seed)
            evidence.save(self._output)
            with self._print:
                self._evidence.append(evidence)
                if job is not None:
                    self._jobs[evidence.number] = job
                print(account.line(evidence, len(self._points)), flush=True)

    def _wait_for_jobs(self) -> None:
        """A job of a pilot that vanished is run again only when its lease is over."""
        ledger.wait_for_all(self._jobs.values())
        for one in self._evidence:
            job = self._jobs.get(one.number)
            if job is not None:
                one.jobs_lost = job.left()
                one.jobs = job.tell()
                if one.jobs_lost:
                    one.notes["job_log"] = job.log()[-4000:]

    def _tell(self, seconds: float) -> int:
        self._evidence.sort(key=lambda one: one.number)
        paths = {one.number: one.save(self._output) for one in self._evidence}
        print(account.table(self._evidence))
        wrong = account.failures(self._evidence, paths)
        if wrong:
            print(wrong)
        print(f"chaos: seed {self._seed}, {seconds:.0f} s, evidence in {self._output}")
        print(account.last_line(self._evidence), flush=True)
        complete = len(self._evidence) == len(self._points)
        return 0 if complete and all(one.good for one in self._evidence) else 1


def _order(one: choice.Point) -> tuple[int, int]:
    """Long points first, and those that need the pool for themselves at the end."""
    return (0 if one.fault.name in LONGEST_FIRST else 2 if one.fault.shared else 1, one.number)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
