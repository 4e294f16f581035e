"""What did not pass at once is named at the end of a run, with how it failed first."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests import outcomes

PYTHON = ".".join(platform.python_version_tuple()[:2])
ROOT = Path(__file__).parents[1]
CONFTEST = """
from tests.outcomes import summarise

def pytest_terminal_summary(terminalreporter):
    summarise(terminalreporter)
"""
UNSTEADY = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("failures", [0, 1, 2, 9])
def test(failures, record_property):
    if failures == 0:
        record_property("left", "wn1: file /cvmfs")
    tried = Path(__file__).with_name(f"tried{failures}")
    times = len(tried.read_text()) if tried.exists() else 0
    tried.write_text("x" * (times + 1))
    assert times >= failures, "the moon is full"
"""


def session(directory: Path, told: Path, *options: str) -> str:
    """A whole session of pytest of its own; what it printed."""
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(directory), *options]
    environment = os.environ | {outcomes.DIRECTORY_VARIABLE: str(told), "PYTHONPATH": os.pathsep.join([".", *sys.path])}
    environment.pop("PYTEST_ADDOPTS", None)
    command += ["-o", f"cache_dir={directory}/cache", str(directory)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600).stdout


def line(failures: int) -> str:
    return f"test_it.py::test[{failures}] (Python {PYTHON}) call: AssertionError: the moon is full"


def test_what_passes_when_it_is_tried_again_is_told_from_what_failed_every_time_and_all_is_named_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (tmp_path / "test_it.py").write_text(UNSTEADY, encoding="utf-8")
    told = tmp_path / "told"
    told.mkdir()

    def account() -> list[str]:
        assert outcomes.main([str(told)]) == 0
        return [found.partition(" assert")[0] for found in capsys.readouterr().out.splitlines()]

    later, failed = "--- passed only when tried again: to be mended ---", "--- failed ---"
    left = [
        "--- left behind, for other tests to stumble over: to be mended ---",
        f"test_it.py (Python {PYTHON}) left wn1: file /cvmfs",
    ]
    said = session(tmp_path, told, "--reruns", "1")
    named = said.partition("= passed when tried again =")[2]
    assert [failures for failures in (0, 1, 2, 9) if f"test[{failures}] (Python" in named] == [1]
    assert account() == [*left, later, line(1), failed, line(2), line(9)]
    assert left[1] in said.partition("= left behind =")[2]
    session(tmp_path, told, "--lf", "--lfnf", "none")
    assert account() == [*left, later, line(1), line(2), failed, line(9)]


def test_where_every_test_passes_at_once_nothing_is_to_be_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcomes.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == "--- every test passed at once ---\n"
