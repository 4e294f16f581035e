from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.codec import from_json_or_none
from pilot_agent.probes.disk import directory_trial
from pilot_agent.probes.disk.directory_trial import DirectoryTrial
from pilot_agent.probes.disk.directory_trials import WORKSPACE, resolve, try_all
from pilot_agent.probes.mountinfo import Mount, read_mounts
from pilot_agent.probes.node import Node
from tests.probes.hanging_fuse import hanging_mount
from tests.probes.namespaced import in_namespace

ROOT = Mount("8:1", "/", "/", "ext4", "/dev/sda1", ("rw",))


def test_a_directory_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    answers = try_all(Node(), [str(tmp_path), "relative"], (ROOT,), seconds=5, workspace=str(tmp_path))
    tried = from_json_or_none(DirectoryTrial, answers[str(tmp_path)].value)
    assert tried is not None
    assert (tried.real, tried.directory, tried.make, tried.write, tried.execute) == (str(tmp_path), True, "", "", "")
    assert from_json_or_none(DirectoryTrial, answers["relative"].value) is None
    assert answers[WORKSPACE].value["real"] == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_trial_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die_in_the_middle(path: str, run_program: bool) -> tuple[str, str, str]:
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
        return "", "", ""

    monkeypatch.setattr(directory_trial, "_try_file", die_in_the_middle)
    answer = try_all(Node(), [str(tmp_path)], (), seconds=5)[str(tmp_path)]
    assert "ended by signal 9" in answer.problem
    assert list(tmp_path.iterdir()) == []


def test_one_file_system_that_hangs_takes_only_its_own_directories(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()

    def work() -> Any:
        with hanging_mount(tmp_path / "hung") as served:
            served.become("silent")
            (tmp_path / "link").symlink_to(tmp_path / "hung")
            paths = [str(tmp_path / name) for name in ("link", "hung", "good")]
            answers = try_all(Node(), paths, read_mounts(Node()), seconds=4)
            return [answers[path].stuck for path in paths]

    assert in_namespace(work) == [True, True, False]


def test_links_are_followed_up_to_a_file_system_that_may_hang(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "relative").symlink_to("real/../real")
    (tmp_path / "absolute").symlink_to(tmp_path / "relative")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "away").symlink_to("/lustre/x")
    shared = Mount("0:50", "/", "/lustre", "lustre", "mgs:/l", ("rw",))
    mounts = (ROOT, shared)
    node = Node()
    assert resolve(node, f"{tmp_path}/absolute/below", mounts) == f"{tmp_path}/real/below"
    assert resolve(node, f"{tmp_path}/away/a/../b", mounts) == "/lustre/x/b"
    assert resolve(node, f"{tmp_path}/circle", mounts) == f"{tmp_path}/circle"
    assert resolve(node, "/", mounts) == "/"
