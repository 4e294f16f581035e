"""Scores on the node: believed only where they are the account's own, and measured by one pilot at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.benchmarks.kept import MOST_FILES, Kept, alone
from pilot_agent.lifecycle import node_list
from pilot_agent.model import BenchmarkScore

KEY = {"name": "x", "version": "1", "cores": 2}


def score() -> BenchmarkScore:
    return BenchmarkScore("x", 2.5, "s", 1.0, measured=time.time())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the node's list lies."""
    monkeypatch.setattr(node_list, "PLACE", str(tmp_path))
    return tmp_path / f"{node_list.PREFIX}{os.geteuid()}"


def only_file(directory: Path) -> Path:
    (path,) = (directory / "benchmarks").iterdir()
    return path


@pytest.mark.usefixtures("place")
def test_a_score_is_found_for_its_own_key_only() -> None:
    assert Kept.of(None).keep(KEY, score()) == ""
    found = Kept.of(None).find(KEY, 1)
    assert found is not None
    assert (found.score, found.cached) == (2.5, True)
    assert Kept.of(None).find(KEY | {"cores": 4}, 1) is None
    assert Kept.of(None).find(KEY, 0) is None


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def make_link(path: Path) -> None:
    path.rename(path.parent / "other")
    path.symlink_to("other")


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def cut(path: Path) -> None:
    path.write_text(path.read_text()[:40])


def make_huge(path: Path) -> None:
    path.write_text(path.read_text() + " " * 100_000)


def spoil(path: Path) -> None:
    path.write_text("x")


DAMAGE: dict[str, Callable[[Path], None]] = {
    "others may write it": lambda path: path.chmod(0o666),
    "a link": make_link,
    "a second name": lambda path: os.link(path, path.parent / "other"),
    "a FIFO": make_fifo,
    "cut": cut,
    "no JSON": spoil,
    "huge": make_huge,
    "another key": lambda path: rewrite(path, lambda document: document["key"].update(cores=9)),
    "another schema": lambda path: rewrite(path, lambda document: document.update(schema="other/1")),
    "no score": lambda path: rewrite(path, lambda document: document["score"].update(score=None)),
    "too old": lambda path: rewrite(path, lambda document: document["score"].update(measured=time.time() - 90000)),
    "from the future": lambda path: rewrite(
        path, lambda document: document["score"].update(measured=time.time() + 9000)
    ),
    "an unknown field": lambda path: rewrite(path, lambda document: document["score"].update(more=1)),
    "a directory that others may write": lambda path: path.parent.chmod(0o777),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_cannot_be_believed_is_passed_over(place: Path, what: str) -> None:
    Kept.of(None).keep(KEY, score())
    DAMAGE[what](only_file(place))
    assert Kept.of(None).find(KEY, 1) is None


def test_only_so_many_are_kept_and_the_oldest_go_first(tmp_path: Path) -> None:
    kept = Kept(str(tmp_path / "kept"))
    for number in range(MOST_FILES + 3):
        assert kept.keep({"number": number}, score()) == ""
        for path in (tmp_path / "kept").iterdir():  # each older than the next, whatever the file system's clock
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 10))
    assert len(list((tmp_path / "kept").iterdir())) == MOST_FILES
    assert kept.find({"number": 0}, 1) is None
    assert kept.find({"number": MOST_FILES + 2}, 1) is not None


def test_a_directory_that_is_not_ours_keeps_nothing_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert "they may write there" in Kept(str(tmp_path / "open")).keep(KEY, score())
    (tmp_path / "file").touch()
    assert Kept(str(tmp_path / "file")).keep(KEY, score()) != ""


HOLD = """
import sys
from pilot_agent.benchmarks.kept import alone
from pilot_agent.lifecycle import node_list
node_list.PLACE = sys.argv[1]
with alone("x", 0) as granted:
    print(granted, flush=True)
    sys.stdin.read()
"""


def test_the_second_pilot_waits_and_one_that_is_killed_holds_nobody_up(place: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(place.parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with alone("x", 0) as granted:
            assert not granted
        with alone("y", 0) as granted:
            assert granted
        holder.kill()
        holder.wait()
    assert any(place.iterdir()), "the killed one left its lock"
    with alone("x", 60) as granted:
        assert granted
    assert not place.exists()
