"""A tarball unpacks to exactly what was announced, or to nothing."""

from __future__ import annotations

import os
import signal
import stat
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pilot_agent.model import FailureKind, PilotError
from pilot_agent.process import Runner
from pilot_agent.startd.artifacts import CONDOR
from pilot_agent.tarballs import unpacking
from pilot_agent.tarballs.index import Tarball
from tests.startd.published import PROGRAMS, tarball


def member(name: str, kind: bytes = tarfile.REGTYPE, **more: object) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = kind
    for key, value in more.items():
        setattr(entry, key, value)
    return entry


def unpack(tmp_path: Path, entry: Tarball, seconds: float = 60.0) -> Path:
    target = tmp_path / "workspace" / "condor"
    target.parent.mkdir(exist_ok=True)
    unpacking.unpack(str(tmp_path / entry.file), str(target), entry, CONDOR, time.monotonic() + seconds)
    return target


def refused(tmp_path: Path, entry: Tarball, seconds: float = 60.0) -> PilotError:
    """The error; nothing is left of what was unpacked."""
    with pytest.raises(PilotError) as caught:
        unpack(tmp_path, entry, seconds)
    assert list((tmp_path / "workspace").iterdir()) == []
    assert caught.value.failure.hint
    return caught.value


def test_files_keep_whether_they_may_be_run_and_nothing_else(tmp_path: Path) -> None:
    umask = os.umask(0o777)
    try:
        target = unpack(tmp_path, tarball(tmp_path))
    finally:
        os.umask(umask)
    for name in PROGRAMS:
        status = (target / name).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o755, os.geteuid())
    assert stat.S_IMODE((target / "sbin").stat().st_mode) == 0o755


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (member("../outside"), "leads out"),
        (member("sbin/../../outside"), "leads out"),
        (member("/etc/passwd"), "leads out"),
        (member("sbin/./x"), "leads out"),
        (member("link", tarfile.SYMTYPE, linkname="/etc"), "neither a file nor a directory"),
        (member("hard", tarfile.LNKTYPE, linkname="sbin/condor_master"), "neither a file nor a directory"),
        (member("fifo", tarfile.FIFOTYPE), "neither a file nor a directory"),
        (member("null", tarfile.CHRTYPE, devmajor=1, devminor=3), "neither a file nor a directory"),
        (member("sbin/condor_master"), "twice"),
        (member("x" * 600), "too long"),
        (member("a\nd b"), "an end of a line"),
        (member("a\udcff"), "cannot be read to its end"),
    ],
    ids=lambda value: value.name[:20] if isinstance(value, tarfile.TarInfo) else "",
)
def test_what_leads_elsewhere_is_refused(tmp_path: Path, entry: tarfile.TarInfo, said: str) -> None:
    failure = refused(tmp_path, tarball(tmp_path, "23.9.6", entry)).failure
    assert (failure.kind, failure.code) == (FailureKind.CORRUPTION, "artifact.content")
    assert said in failure.message
    assert not (tmp_path / "outside").exists()


def test_another_tree_than_announced_is_refused(tmp_path: Path) -> None:
    failure = refused(tmp_path, tarball(tmp_path, "23.9.6", member("extra"))).failure
    assert "something else than the index announces" in failure.message


@pytest.mark.parametrize("change", [{"members": 3}, {"unpacked_bytes": 100}])
def test_more_than_was_announced_is_refused(tmp_path: Path, change: dict[str, int]) -> None:
    failure = refused(tmp_path, replace(tarball(tmp_path), **change)).failure  # type: ignore[arg-type]
    assert "more than the index announces" in failure.message


def test_an_altered_file_is_refused_before_anything_of_it_is_unpacked(tmp_path: Path) -> None:
    entry = tarball(tmp_path)
    path = tmp_path / entry.file
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    failure = refused(tmp_path, entry).failure
    assert (failure.kind, failure.code) == (FailureKind.CORRUPTION, "artifact.digest")
    path.write_bytes(content + b"more")
    assert "another size" in refused(tmp_path, entry).failure.message


def test_a_file_that_ends_too_early_is_refused_even_with_its_digest(tmp_path: Path) -> None:
    import hashlib

    entry = tarball(tmp_path)
    content = (tmp_path / entry.file).read_bytes()[:-50]
    (tmp_path / entry.file).write_bytes(content)
    cut = replace(entry, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
    assert refused(tmp_path, cut).failure.code == "artifact.content"


def test_a_full_disk_is_the_sites_matter(tmp_path: Path) -> None:
    failure = refused(tmp_path, replace(tarball(tmp_path), unpacked_bytes=1 << 60)).failure
    assert (failure.kind, failure.code) == (FailureKind.NODE_RESOURCE, "disk.full")


def test_the_time_is_limited(tmp_path: Path) -> None:
    assert refused(tmp_path, tarball(tmp_path), seconds=0.0).failure.code == "artifact.deadline"


def test_whoever_is_killed_in_the_middle_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    entry = tarball(tmp_path)
    target = tmp_path / "workspace" / "condor"
    target.parent.mkdir()
    set_mode = os.fchmod

    def dies(descriptor: int, mode: int) -> None:
        set_mode(descriptor, mode)
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("sbin/condor_master"):
            os.kill(os.getpid(), signal.SIGKILL)

    def run() -> bytes:
        os.fchmod = dies  # type: ignore[assignment]  # only in the child
        unpacking.unpack(str(tmp_path / entry.file), str(target), entry, CONDOR, time.monotonic() + 60)
        return b"done"

    with Runner() as runner:
        result = runner.wait(runner.start_call(run, name="unpacking", deadline_seconds=60))
    assert result.signal == signal.SIGKILL
    assert not target.exists()
    (half,) = target.parent.iterdir()
    assert (half / "sbin/condor_master").exists()
    assert unpack(tmp_path, entry) == target
