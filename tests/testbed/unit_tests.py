"""Run the unit tests on Debian 13's Python 3.13, in a host of the testbed that has no network to the outside."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import outcomes
from tests.probes import doubles
from tests.testbed import cache, prerequisites, trees
from tests.testbed.hosts import Bind, Host, HostPlan
from tests.testbed.network import Network
from tests.testbed.progress import step
from tests.testbed.runs import run_directory

PYTHON_VERSION = "3.13"
REPOSITORY = Path(__file__).resolve().parents[2]
INSIDE = "/srv/pilot-agent"
SITE = "/srv/site-packages"
# Tools that look at the source and not at its behaviour are run once, on the oldest Python.
NOT_IN_A_HOST = ("cgroup2", "fio", "shellcheck")
"""What a host cannot have, or has not installed; the tests that need it run on the machine around it."""
SKIPPED_PACKAGES = ("cyclonedx", "mypy", "ruff", "types-")
# The payload is built on the outer machine; the testbed cannot hold a testbed.
IGNORED = ("tests/integration", "tests/packaging")
PROGRAMS = ("pilot_agent", "server_stub")
"""What the tests start hundreds of times, each time without leave to write what Python compiled."""
TIMEOUT_SECONDS = 1800.0
COMPILE_TIMEOUT_SECONDS = 300.0
DOUBLES = "build/doubles"
OUTCOMES = "/srv/outcomes"


def run(arguments: Sequence[str]) -> int:
    """pytest's exit status; `arguments` are passed on to it."""
    # The tree has no compiler.
    doubles.compile_all(REPOSITORY / DOUBLES)
    site = libraries()
    told = os.environ.get(outcomes.DIRECTORY_VARIABLE)
    binds = [Bind(Path(told).absolute(), OUTCOMES, read_only=False)] if told else []
    with run_directory() as directory:
        for name in PROGRAMS:
            _compile(directory, Bind(REPOSITORY / name, f"{INSIDE}/{name}", read_only=False))
        with _host(directory, (Bind(REPOSITORY, INSIDE), Bind(site, SITE), *binds)) as host:
            return _pytest(host, arguments, {outcomes.DIRECTORY_VARIABLE: OUTCOMES} if told else {})


def libraries() -> Path:
    """What the project and its tests need of PyPI, for the Python of Debian 13. Installed unless the cache has it."""
    return cache.build_once(cache.directory(), "python313", {"compiled": _requirements()}, _install)


@contextmanager
def _host(directory: Path, binds: tuple[Bind, ...]) -> Iterator[Host]:
    """A running host with this Python; its disk is below `directory`."""
    network = Network()
    host = Host(HostPlan("unit", "10.77.0.20", trees.ensure(), "unit.test", binds=binds), directory / "unit", network)
    network.start()
    try:
        host.start()
        yield host
    finally:
        host.stop()
        network.stop()


def _compile(directory: Path, place: Bind) -> None:
    """Put this Python's byte code beside the sources. What has errors is left to fail where it is imported."""
    with _host(directory, (place,)) as host:
        host.run(["python3", "-m", "compileall", "-qq", place.inside], timeout_seconds=COMPILE_TIMEOUT_SECONDS)


def _pytest(host: Host, arguments: Sequence[str], variables: Mapping[str, str]) -> int:
    ignored = [f"--ignore={path}" for path in IGNORED]
    command = ["python3", "-B", "-m", "pytest", "-q", "-rs", "-o", "cache_dir=/tmp/pytest-cache", *ignored]
    environment = {**variables, "PYTHONPATH": f"{SITE}:{INSIDE}", "HYPOTHESIS_STORAGE_DIRECTORY": "/tmp/hypothesis"}
    environment[doubles.COMPILED_VARIABLE] = f"{INSIDE}/{DOUBLES}"
    environment[prerequisites.SKIP_VARIABLE] = ",".join(sorted({*prerequisites.skipped(), *NOT_IN_A_HOST}))

    def tested(*options: str) -> int:
        ran = host.run([*command, *options], cwd=INSIDE, env=environment, timeout_seconds=TIMEOUT_SECONDS)
        sys.stdout.write(ran.stdout)
        sys.stderr.write(ran.stderr)
        return ran.returncode

    status = tested(*arguments)
    if status != pytest.ExitCode.TESTS_FAILED:
        return status
    print("--- what failed, once more and one by one ---", flush=True)
    return tested("--lf", "--lfnf", "none", *(word for word in arguments if (REPOSITORY / word).exists()))


def _requirements() -> list[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["server"], *extras["dev"]]
    return [item for item in wanted if not item.startswith(SKIPPED_PACKAGES)]


def _install(target: Path) -> None:
    with step(f"installing test libraries for Python {PYTHON_VERSION}"):
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        command += ["--target", str(target), "--python-version", PYTHON_VERSION, "--only-binary=:all:"]
        subprocess.run([*command, *_requirements()], check=True)
        with run_directory() as directory:
            _compile(directory, Bind(target, SITE, read_only=False))
