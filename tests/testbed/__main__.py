"""`python -m tests.testbed build | up | shell HOST | unit`: the testbed for people."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from tests.testbed import (
    cache,
    images,
    modules,
    overlays,
    prerequisites,
    tarballs,
    trees,
    unit_tests,
)
from tests.testbed.command import CommandError
from tests.testbed.grid import Grid
from tests.testbed.hosts import SEARCH_PATH
from tests.testbed.namespaces import enter
from tests.testbed.runs import run_directory

STATE = "grid.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 when something is missing, 2 for a wrong command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.testbed", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build the trees and job images that the cache lacks")
    commands.add_parser("up", help="start the grid and keep it until Ctrl-C")
    shell = commands.add_parser("shell", help="open a root shell in a host of the grid that `up` keeps")
    shell.add_argument("host", choices=("pool", "factory", "wn1", "wn2"))
    unit = commands.add_parser("unit", help="run the unit tests on Python 3.13; further arguments go to pytest")
    unit.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    try:
        prerequisites.require()
        if options.command == "build":
            return _build()
        if options.command == "unit":
            return unit_tests.run(options.arguments)
        return _up() if options.command == "up" else _shell(options.host)
    except (prerequisites.PrerequisiteError, CommandError) as error:
        print(error, file=sys.stderr)
        return 1


def _build() -> int:
    print(trees.ensure())
    for recipe in (trees.SLURM, trees.SLURM_WITH_HTCONDOR, trees.NEWEST_HTCONDOR):
        if recipe.name not in prerequisites.skipped():
            print(trees.ensure(recipe))
    print(images.ensure())
    print(tarballs.ensure())
    print(modules.ensure())
    print(overlays.SERVICES.ensure())
    print(overlays.FACTORY.ensure())
    return 0


def _up() -> int:
    state = _state()
    with cache.locked(state.with_suffix(".lock")), run_directory() as directory, Grid(directory) as grid:
        state.write_text(json.dumps({name: host.pid for name, host in grid.hosts.items()}), encoding="utf-8")
        for name, host in grid.hosts.items():
            print(f"{name:8} {host.plan.address:12} python -m tests.testbed shell {name}")
        print("Press Ctrl-C to take it down.", flush=True)
        _wait_for_end()
        print("taking the grid down", flush=True)
    return 0


def _state() -> Path:
    return cache.directory() / STATE


def _wait_for_end() -> None:
    """Wait for one of the signals that ask for an end, also where the starting shell had them ignored."""
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: asked.set())
    asked.wait()


def _shell(name: str) -> int:
    state = _state()
    if not cache.is_locked(state.with_suffix(".lock")):
        print("no grid is up; run `python -m tests.testbed up` in another terminal first", file=sys.stderr)
        return 1
    pid = json.loads(state.read_text(encoding="utf-8"))[name]
    terminal = {key: os.environ[key] for key in ("TERM", "LANG") if key in os.environ}
    environment = {"PATH": SEARCH_PATH, "HOME": "/root", "PS1": f"{name}:\\w# ", **terminal}
    words = [*enter(pid), "env", "--chdir=/root", "bash", "--norc"]
    return subprocess.call(words, env=environment)


if __name__ == "__main__":
    sys.exit(main())
