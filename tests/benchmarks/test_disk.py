"""The disk: by the real fio, by system calls, without direct I/O, full, and with an fio that fails."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_agent.benchmarks import disk
from pilot_agent.benchmarks.disk import DiskError, measure
from pilot_agent.process import Runner
from tests.needs import need

NO_FIO = {"PATH": "/nonexistent"}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory in which a benchmark leaves nothing."""
    directory = tmp_path / "scratch"
    directory.mkdir()
    yield directory
    assert list(directory.iterdir()) == []


def program(directory: Path, text: str) -> dict[str, str]:
    """An environment in which ``fio`` is this script."""
    directory.mkdir()
    path = directory / "fio"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return {"PATH": f"{directory}:{os.environ['PATH']}"}


def test_the_real_fio_measures_and_leaves_nothing(place: Path) -> None:
    need("fio", shutil.which("fio") is not None, "install Debian's fio (`make setup`)")
    found = measure(str(place), dict(os.environ), size_mib=16, rounds=2, seconds=0.2)
    assert found.engine == "fio"
    assert len(found.rounds) == 2
    for one in found.rounds:
        assert one.write > 0
        assert one.read is not None
        assert one.read > 0
        assert one.random_reads is not None
        assert one.random_reads > 0


def test_without_fio_system_calls_do_the_same(place: Path) -> None:
    found = measure(str(place), NO_FIO, size_mib=8, rounds=2, seconds=0.2)
    assert (found.engine, len(found.rounds)) == ("system calls", 2)
    assert all(one.write > 0 for one in found.rounds)
    # What could have been read from memory is not called a rate of the disk.
    assert all((one.read is not None) == found.direct for one in found.rounds)


def test_without_direct_io_nothing_is_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A file that must be a directory is refused by every file system, as direct I/O is by some.
    monkeypatch.setattr(os, "O_DIRECT", os.O_DIRECTORY)
    found = measure(str(place), NO_FIO, size_mib=2, rounds=1, seconds=0.2)
    assert not found.direct
    assert (found.rounds[0].read, found.rounds[0].random_reads) == (None, None)


def test_time_ends_a_round_before_the_file_is_complete(place: Path) -> None:
    (one,) = measure(str(place), NO_FIO, size_mib=1 << 20, rounds=1, seconds=0.0).rounds
    assert one.write > 0


def test_where_fio_may_not_go_past_the_cache_it_is_asked_again_without(tmp_path: Path, place: Path) -> None:
    section = '{"jobname":"%s","error":0,"%s":{"bw_bytes":5000000,"iops":7,"clat_ns":{"percentile":{"99.000000":9}}}}'
    jobs = ",".join(section % pair for pair in (("write", "write"), ("read", "read"), ("randread", "read")))
    refusal = "fio: looks like your file system does not support direct=1/buffered=0"
    script = f"""case "$*" in *--direct=1*) echo "{refusal}" >&2; exit 1;; esac
echo '{{"jobs":[{jobs}]}}'"""
    found = measure(str(place), program(tmp_path / "bin", script), size_mib=2, rounds=2, seconds=0.2)
    assert (found.engine, found.direct) == ("fio", False)
    assert [one.write for one in found.rounds] == [5.0, 5.0]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'no space left' >&2; exit 1", "exited 1: no space left"),
        ("echo rubbish", "its output is no JSON"),
        ("kill -9 $$", "ended by signal 9"),
    ],
)
def test_an_fio_that_fails_is_no_score(tmp_path: Path, place: Path, script: str, said: str) -> None:
    with pytest.raises(DiskError, match=said):
        measure(str(place), program(tmp_path / "bin", script), size_mib=2, rounds=1, seconds=0.2)


def test_an_fio_that_hangs_is_ended(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "START_SECONDS", 0.1)
    with pytest.raises(DiskError, match="did not end within"):
        measure(str(place), program(tmp_path / "bin", "exec sleep 300"), size_mib=2, rounds=1, seconds=0.1)


def test_a_limit_of_what_may_be_written_ends_it_readably(place: Path) -> None:
    def bounded() -> bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 19, 3 << 19))
        try:
            measure(str(place), NO_FIO, size_mib=8, rounds=1, seconds=60)
        except (DiskError, OSError) as error:
            return str(error).encode()
        return b"it wrote all"

    with Runner() as runner:
        result = runner.wait(runner.start_call(bounded, name="disk", deadline_seconds=60))
    assert b"524288 of 1048576 bytes: it is full, or over its quota" in result.answer, result.explain()
