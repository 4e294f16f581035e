from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.probes.answers import Answer
from pilot_agent.probes.disk.write_speed import measure_write, mib_per_second
from pilot_agent.probes.kernel.namespaces import mount
from pilot_agent.probes.node import Node
from tests.probes.namespaced import in_namespace


def test_as_much_as_wanted_is_written_and_nothing_stays(tmp_path: Path) -> None:
    found = measure_write(str(tmp_path), 3, 10)
    assert found["mib"] == 3
    assert found["seconds"] > 0
    assert list(tmp_path.iterdir()) == []


def test_it_ends_in_time_with_what_was_written(tmp_path: Path) -> None:
    assert measure_write(str(tmp_path), 100, 0.0) == {"mib": 0, "seconds": pytest.approx(0, abs=10)}


def test_a_file_system_without_nameless_files_is_measured_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refusing(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no")
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", refusing)
    assert measure_write(str(tmp_path), 1, 10)["mib"] == 1
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_is_left_as_it_was(tmp_path: Path) -> None:
    def work() -> Any:
        mount("tmpfs", str(tmp_path), "tmpfs", 0, "size=2m")
        answer = Node().ask("x", lambda: measure_write(str(tmp_path), 8, 10))
        return [answer.problem, os.listdir(tmp_path), os.statvfs(tmp_path).f_bfree > 0]

    problem, left, room = in_namespace(work)
    assert problem.startswith("ENOSPC")
    assert (left, room) == ([], True)


@pytest.mark.parametrize(
    ("value", "speed"),
    [
        ({"mib": 64, "seconds": 0.5}, 128.0),
        ({"mib": 0, "seconds": 0.5}, None),
        ({"mib": 64, "seconds": 0}, None),
        ({"mib": "64", "seconds": 1}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_speed_is_a_positive_number_or_none(value: Any, speed: float | None) -> None:
    assert mib_per_second(Answer(value)) == speed
