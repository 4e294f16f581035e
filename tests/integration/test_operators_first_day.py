"""The operator's first day, as its page tells it: every command is given as it stands there, on the factory's host."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import BUILT
from tests.testbed import unit_tests
from tests.testbed.grid import SITE_POOL, USER_POOL, Grid, GridPlan
from tests.testbed.runs import run_directory
from tests.testbed.trees import FACTORY
from tests.testbed.user_jobs import Jobs
from tests.testbed.vo_service import libraries

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial" / "operate-a-factory-and-frontend.md"
HOME = f"{FACTORY.home}/first-day"
CODE = "/opt/pilot-first-day"
DONE = "the first day is over"
PATIENCE_SECONDS = 420.0
AT_THE_BEGINNING = (
    "sed -i 's/idle_shutdown_seconds: 600/idle_shutdown_seconds: 20/; "
    "s/^    cores: 1 .*/&\\n    submit: {payload: file}/' factory/entries.yaml"
)
NO_NAMES = f"  parameters: {{NO_DNS: 'True', DEFAULT_DOMAIN_NAME: {USER_POOL.domain}}}"
IN_A_HURRY = f'sed -i "s/^cycle_seconds: 60/cycle_seconds: 3/; s/^pool:/pool:\\n{NO_NAMES}/" frontend/frontend.yaml'
"""What is different here: nodes are other hosts, nobody has a name server, pilots leave sooner, cycles are shorter."""


def commands() -> list[str]:
    """The commands of the page, with the names of this grid."""
    blocks = re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [line.replace("cm.example.org", f"{USER_POOL.head}:9618") for line in lines]


def script(told: list[str]) -> str:
    """All of them for one shell, which ends at the first that fails, and with it what it began."""
    lines = ["set -eux", "umask 077"]
    for line in told:
        lines.append(line)
        if line.startswith("pilot-factory init"):
            lines.append(AT_THE_BEGINNING)
        if line.startswith("pilot-frontend init"):
            lines.append(IN_A_HURRY)
    return "\n".join([*lines, f"echo {DONE}", "wait"]) + "\n"


@pytest.fixture(scope="module")
def grid(testbed_machine: None) -> Iterator[Grid]:
    """A grid whose hosts have what the servers need."""
    with run_directory() as directory, Grid(directory, GridPlan(binds=(libraries(),))) as running:
        yield running


@pytest.fixture
def place(grid: Grid) -> Iterator[Path]:
    """A directory of the factory's account with payload and tokens, and the programs in PATH."""
    host = grid.factory
    for package in ("pilot_agent", "server_stub"):
        shutil.copytree(ROOT / package, host.path(CODE) / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("factory", "frontend"):
        program = host.path(f"/usr/local/bin/pilot-{name}")
        program.write_text(
            f'#!/bin/sh\nPYTHONPATH={CODE}:{unit_tests.SITE} exec python3 -B -m server_stub {name} "$@"\n'
        )
        program.chmod(0o755)
    home = host.path(HOME)
    (home / "build").mkdir(parents=True)
    for path in (BUILT / "pilot.pyz", BUILT / "pilot.sh", ROOT / "packaging" / "launcher.sh"):
        shutil.copy2(path, home / "build" / path.name)
    for number in (1, 2, 3):
        (home / f"pilot-{number}.token").write_text(grid.token() + "\n")
    reader = grid.token(f"frontend@{USER_POOL.domain}", authorizations=("READ",))
    (home / "frontend.token").write_text(reader + "\n")
    for token in home.glob("*.token"):
        token.chmod(0o600)
    host.run(["chown", "-R", f"{FACTORY.name}:", HOME])
    _let_in(grid)
    yield home
    shutil.rmtree(host.path(CODE))
    shutil.rmtree(home)


def _let_in(grid: Grid) -> None:
    """The access point knows the account by a token: its release is not that of the bindings."""
    identity = f"{FACTORY.name}@{SITE_POOL.domain}"
    words = ["condor_token_create", "-identity", identity, "-authz", "READ", "-authz", "WRITE"]
    made = grid.factory.run(words)
    assert made.returncode == 0, made.stderr
    script = "umask 077; mkdir -p ~/.condor/tokens.d; cat > ~/.condor/tokens.d/access-point"
    grid.factory.run(["sh", "-c", script], user=FACTORY.name, input=made.stdout)


def test_every_command_works_and_the_jobs_are_run(grid: Grid, place: Path) -> None:
    log = place / "said"
    (place / "script").write_text(script(commands()))
    with log.open("w") as said:
        door = grid.factory.popen(["bash", "script"], user=FACTORY.name, cwd=HOME, stdout=said, stderr=said)
    until = time.monotonic() + PATIENCE_SECONDS

    def wait(what: str, ready: Callable[[], bool]) -> None:
        while not ready():
            assert door.poll() is None, f"a command of the page failed\n{_all(place)}"
            assert time.monotonic() < until, f"{what} did not come\n{_all(place)}"
            time.sleep(0.5)

    try:
        wait("the frontend", lambda: "\n+ pilot-frontend run" in log.read_text())
        jobs = Jobs(grid).submit("executable = /bin/sleep\narguments = 10\nrequirements = true", pilot=None, count=2)
        wait("the page's end", lambda: f"\n{DONE}\n" in log.read_text())
        wait("the jobs' end", lambda: jobs.events(5) == jobs.count)
    finally:
        grid.factory.run(["pkill", "-TERM", "-u", FACTORY.name, "-f", "server_stub"])  # of this host's alone
        door.kill()
        door.wait()
        _nothing_left(grid)


def _nothing_left(grid: Grid) -> None:
    """The pilots end, so that the nodes are free for the next test."""
    grid.factory.run(["condor_rm", "-all"])
    until = time.monotonic() + 120
    while grid.factory.run(["condor_q", "-allusers", "-af", "ClusterId"]).stdout.strip() and time.monotonic() < until:
        time.sleep(0.5)


def _all(place: Path) -> str:
    names = ("said", "factory/log", "frontend/log")
    return "\n".join(f"--- {name}\n{(place / name).read_text()[-4000:]}" for name in names if (place / name).exists())
