"""A runtime shown to work without any image; what real runtimes do is shown in the testbed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilot_agent.containers import places
from pilot_agent.containers.selftest import try_runtimes
from tests.containers.runtimes import calls, make_runtime


@pytest.fixture(autouse=True)
def no_other_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that runs the tests may have a runtime of its own."""
    monkeypatch.setattr(places, "SYSTEM_DIRECTORY", str(tmp_path / "none"))
    monkeypatch.setattr(places, "USUAL_CONDOR", ())
    monkeypatch.setattr("pilot_agent.environment.DEFAULT_PATH", str(tmp_path / "none"))


def tried(tmp_path: Path, *directories: Path) -> list[tuple[str, bool, str]]:
    work = tmp_path / "work"
    work.mkdir()
    search_path = ":".join(map(str, directories))
    found = try_runtimes(None, {"PATH": search_path}, str(work))
    return [(one.path, not one.problem, one.code) for one in found]


def test_without_a_runtime_nothing_is_tried(tmp_path: Path) -> None:
    assert tried(tmp_path, tmp_path / "none") == []


def test_the_first_that_runs_a_program_ends_the_search(tmp_path: Path) -> None:
    broken = make_runtime(tmp_path / "a", 'echo "could not start" >&2; exit 255')
    good = make_runtime(tmp_path / "b")
    unused = make_runtime(tmp_path / "c")
    found = tried(tmp_path, tmp_path / "a", tmp_path / "b", tmp_path / "c")
    assert [(path, works) for path, works, _ in found] == [(str(broken), False), (str(good), True)]
    assert calls(unused) == []
    assert f"{tmp_path}/work/selftest-image" in calls(good)[0]


def test_the_image_has_the_nodes_directories_of_programs_and_nothing_of_its_own(tmp_path: Path) -> None:
    make_runtime(tmp_path / "a")
    tried(tmp_path, tmp_path / "a")
    image = tmp_path / "work" / "selftest-image"
    assert {"usr", "bin", "proc", "dev", "tmp", "etc"} <= set(os.listdir(image))
    assert os.listdir(image / "usr") == []
    assert os.path.islink(image / "bin") == os.path.islink("/bin")
