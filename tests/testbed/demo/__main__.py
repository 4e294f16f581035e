"""`python -m tests.testbed.demo [--keep]`: the demonstration, exit status 0 only if all is as expected."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.testbed import images, prerequisites, trees
from tests.testbed.command import CommandError
from tests.testbed.demo.account import account, heading, terminal_width
from tests.testbed.demo.factory import PROJECT, FactoryHost, require_payloads
from tests.testbed.demo.outcome import Outcome
from tests.testbed.demo.progress import Progress
from tests.testbed.demo.scenario import Scenario, save
from tests.testbed.grid import Grid
from tests.testbed.namespaces import StartError, enter
from tests.testbed.prerequisites import PrerequisiteError
from tests.testbed.runs import run_directory


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all was as expected, 1 when not, 2 for a wrong command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.testbed.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the grid up afterwards, until Ctrl-C")
    parser.add_argument("--payloads", type=Path, default=PROJECT / "build", help="directory of pilot.pyz and pilot.sh")
    parser.add_argument("--output", type=Path, default=PROJECT / "build" / "demo", help="directory for the reports")
    options = parser.parse_args(arguments)
    try:
        prerequisites.require()
        require_payloads(options.payloads)
        return _run(options.payloads, options.output, options.keep)
    except (PrerequisiteError, CommandError, StartError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(payloads: Path, output: Path, keep: bool) -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    began = time.monotonic()
    trees.ensure()
    images.ensure()
    with run_directory() as directory:
        grid = Grid(directory)
        try:
            with Progress() as progress:
                progress.say("starting the grid: two pools, a factory, two worker nodes")
                grid.start()
                factory = FactoryHost(grid, payloads)
                outcome = Scenario(grid, factory, progress).run()
                save(outcome, factory, output)
            code = _tell(outcome, output, time.monotonic() - began)
            if keep:
                _keep(grid)
        finally:
            with Progress() as progress:
                progress.say("taking the grid down")
                grid.stop()
    return code


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _tell(outcome: Outcome, output: Path, seconds: float) -> int:
    print(account(outcome))
    problems = outcome.problems()
    print(heading("result", terminal_width()))
    for problem in problems:
        print(f"NOT AS EXPECTED: {problem}")
    if outcome.busiest is not None:
        print(f"The report of the pilot that ran most jobs: {output / 'report.json'}; events and logs beside it.")
    verdict = f"{len(problems)} things are not as expected" if problems else "All is as expected"
    print(f"{verdict}, after {seconds:.0f} s.", flush=True)
    return 1 if problems else 0


def _keep(grid: Grid) -> None:
    try:
        print("The grid stays up; press Ctrl-C to take it down. To enter a host:")
        for name, host in grid.hosts.items():
            print(f"  {name:8} {shlex.join([*enter(host.pid), 'bash'])}")
        sys.stdout.flush()
        signal.pause()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    sys.exit(main())
