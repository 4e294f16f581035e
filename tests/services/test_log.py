"""The log of a service, in a directory in which the service may put what it likes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pilot_agent.services.log import NAME, OLDER_NAME, Log

MEBIBYTE = 1 << 20
OTHERS = b"a token\n" * (2 * MEBIBYTE // 8)


def others(directory: Path) -> Path:
    """A large file of the pilot's, which is not the service's."""
    path = directory / "others"
    path.write_bytes(OTHERS)
    return path


def service(directory: Path) -> Path:
    (directory / "service").mkdir()
    return directory / "service"


PLANTED: dict[str, Callable[[Path, Path], None]] = {
    "a link": lambda at, other: at.symlink_to(other),
    "another name of a file": lambda at, other: at.hardlink_to(other),
    "a pipe": lambda at, _: os.mkfifo(at),
    "a link to nothing": lambda at, other: at.symlink_to(other.with_name("nothing")),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_what_a_service_puts_in_the_place_of_its_log_is_neither_read_nor_written(tmp_path: Path, planted: str) -> None:
    other, directory = others(tmp_path), service(tmp_path)
    PLANTED[planted](directory / NAME, other)
    log = Log(str(directory), 1)
    assert not log.look(1.0)
    assert not log.says("a token")
    assert "token" not in log.last_words()
    assert other.read_bytes() == OTHERS


@pytest.mark.parametrize("planted", PLANTED)
def test_the_next_start_writes_a_log_of_its_own(tmp_path: Path, planted: str) -> None:
    other, directory = others(tmp_path), service(tmp_path)
    PLANTED[planted](directory / NAME, other)
    log = Log(str(directory), 1)
    descriptor = log.begin()
    os.write(descriptor, b"here I am\n")
    os.close(descriptor)
    assert log.says("here I am")
    assert (directory / NAME).read_bytes() == b"here I am\n"
    assert other.read_bytes() == OTHERS
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("planted", PLANTED)
def test_what_stands_in_the_place_of_the_older_log_is_left_alone(tmp_path: Path, planted: str) -> None:
    other, directory = others(tmp_path), service(tmp_path)
    PLANTED[planted](directory / OLDER_NAME, other)
    log = Log(str(directory), 1)
    (directory / NAME).write_bytes(b"x" * MEBIBYTE)
    assert log.look(1.0)
    assert (directory / NAME).stat().st_size == 0
    assert other.read_bytes() == OTHERS


def test_a_log_that_grew_is_kept_as_the_older_one(tmp_path: Path) -> None:
    log = Log(str(tmp_path), 1)
    os.close(log.begin())
    (tmp_path / NAME).write_bytes(b"x" * MEBIBYTE)
    assert log.look(1.0)
    assert (tmp_path / NAME).stat().st_size == 0
    assert (tmp_path / OLDER_NAME).read_bytes() == b"x" * (MEBIBYTE // 2)
