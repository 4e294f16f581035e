"""What every test may rely on, and what every test must leave as it was."""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

from tests import distribution, outcomes
from tests.reaping import is_subreaper

# The same examples in every run, and no limit on time: what a test finds does not depend on the machine's load. On a
# newer Python it is the library's behaviour that is looked at again, not each corner of the input.
EXAMPLES = 60 if sys.version_info < (3, 12) else 20
settings.register_profile("reproducible", derandomize=True, deadline=None, database=None, max_examples=EXAMPLES)
settings.load_profile("reproducible")

MakePlugin = Callable[[str, str], str]
"""Writes a plugin module: (name, source) -> the plugin directory it is in."""

MakeDistribution = Callable[..., str]
"""Writes the metadata of a distribution: (entry point's name, module, directory=None) -> the directory it is in."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long."""
    items[:] = distribution.in_order(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """How `-n` shares the tests out."""
    return distribution.scheduler(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what did not pass at once."""
    outcomes.summarise(terminalreporter)


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    """Environment, working directory, handling of signals, open descriptors and children are after a test what they
    were before it."""
    environment, directory = dict(os.environ), os.getcwd()
    descriptors, children, signals = _descriptors(), _children(), _signals()
    yield
    now = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    before = {name: value for name, value in environment.items() if name != "PYTEST_CURRENT_TEST"}
    assert now == before, "the test changed the environment"
    assert os.getcwd() == directory, "the test changed the working directory"
    assert _signals() == signals, "the test changed what becomes of signals"
    opened = _descriptors().items() - descriptors.items()
    assert not opened, f"the test left descriptors open: {sorted(opened)}"
    left = _children() - children
    assert not left, f"the test left children: {sorted(left)}"
    assert not is_subreaper(), "the test left this process a subreaper: tests.reaping.no_subreaper()"


@pytest.fixture
def old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that knows no process descriptors, as Enterprise Linux 8 has it (4.18): pidfd_open(2) came with 5.3."""

    def unknown(*_: int) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", unknown)
    monkeypatch.setattr("pilot_agent.light.signal.pidfd_send_signal", unknown)


@pytest.fixture(params=["5.3", "4.18"])
def each_kernel(request: pytest.FixtureRequest) -> None:
    """The test once on a kernel with process descriptors, and once without."""
    if request.param == "4.18":
        request.getfixturevalue("old_kernel")


def _descriptors() -> dict[int, str]:
    """Open descriptors and what they refer to; the one that lists the directory is gone when it is looked at."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
    return found


def _signals() -> dict[int, object]:
    """What becomes of each signal, and under -1 which descriptor is written to: once that one is closed its number is
    another file's."""
    handled: dict[int, object] = {number: signal.getsignal(number) for number in signal.valid_signals()}
    handled[-1] = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(int(str(handled[-1])))
    return handled


def _children() -> set[tuple[int, str]]:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # the kernel knows of none: no need to look at every process of the machine
        return set()
    found = set()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it ends while it is looked at
            found.add((child.pid, child.name()))
    return found


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that everybody can get to; those of pytest lie in a private one."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:  # a sticky directory on every system
        os.chmod(path, 0o755)
        yield Path(path)


@pytest.fixture
def plugin_directory(tmp_path: Path) -> Path:
    """An empty plugin directory."""
    directory = tmp_path / "plugins"
    directory.mkdir()
    return directory


@pytest.fixture
def make_plugin(plugin_directory: Path) -> MakePlugin:
    """Writes plugin modules into one plugin directory, whose path it returns. What a plugin usually needs of the
    contract is imported for it."""

    def write(name: str, source: str) -> str:
        (plugin_directory / f"{name}.py").write_text(PREAMBLE + source)
        return str(plugin_directory)

    return write


PREAMBLE = """\
import os
import shutil
import sys
import time

from pilot_agent.hookspecs import (
    Attribute, Benchmark, Check, ContainerRequest, Mount, Option, Periodic, Probe, Readiness, Service, Setup,
    SetupResult, StartdFragment, hookimpl,
)
from pilot_agent.model import BenchmarkScore, CheckResult, CheckStatus, Fact, ImageCandidate, Limit

"""


@pytest.fixture
def make_distribution(plugin_directory: Path) -> MakeDistribution:
    """Writes a ``dist-info`` with one entry point of the pilot's group, into the plugin directory if not told another
    one."""

    def write(entry_point: str, module: str, directory: Path | None = None) -> str:
        at = directory or plugin_directory
        metadata = at / f"{entry_point}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {entry_point}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[pilot_agent]\n{entry_point} = {module}\n")
        return str(at)

    return write
