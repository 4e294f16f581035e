"""What a signed archive may do to the node: make files below its own directory, so many and so large."""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.trust import wheels, zips
from pilot_agent.trust.wheels import unpack_wheel

ENTRY = ("probe-1.0.dist-info/entry_points.txt", b"[pilot_agent]\nprobe = probe.hooks\n")


def wheel(path: Path, *members: tuple[str, bytes], kind: int = 0, mode: int = 0o644) -> str:
    """An archive of these members, the last of which is of this kind and mode."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, (name, content) in enumerate(members, start=1):
            member = zipfile.ZipInfo(name)
            member.compress_type = zipfile.ZIP_DEFLATED
            last = number == len(members)
            member.external_attr = ((kind or stat.S_IFREG) | mode if last else stat.S_IFREG | 0o644) << 16
            archive.writestr(member, content)
    return str(path)


def refused(path: str, directory: Path) -> str:
    with pytest.raises(PilotError) as caught:
        unpack_wheel(path, str(directory / "plugin"))
    failure = caught.value.failure
    assert (failure.kind, failure.code) == (FailureKind.CORRUPTION, "artifact.content")
    assert [item.name for item in directory.iterdir() if item.name.startswith("plugin")] == []
    return failure.message


def failure_of(path: str, directory: Path) -> Failure | None:
    try:
        unpack_wheel(path, str(directory / "plugin"))
    except PilotError as error:
        return error.failure
    return None


def test_modules_packages_and_scripts_are_there_with_their_modes(tmp_path: Path) -> None:
    made = wheel(
        tmp_path / "w.whl", ENTRY, ("probe/hooks.py", b"x = 1\n"), ("probe/run.sh", b"#!/bin/sh\n"), mode=0o775
    )
    old = os.umask(0o077)
    try:
        unpack_wheel(made, str(tmp_path / "plugin"))
    finally:
        os.umask(old)
    assert (tmp_path / "plugin/probe/hooks.py").read_text() == "x = 1\n"
    modes = [stat.S_IMODE((tmp_path / "plugin/probe" / name).stat().st_mode) for name in ("hooks.py", "run.sh")]
    assert modes == [0o644, 0o755]


@pytest.mark.parametrize(
    "name", ["../up.py", "/etc/cron.d/x", "a/../../x", "a//b", "./x", "a\\b", "nul\nx", "x" * 400, "a/..", "~/.ssh/x"]
)
def test_a_name_that_leads_out_of_the_directory_is_refused(tmp_path: Path, name: str) -> None:
    assert "is no name of a file" in refused(wheel(tmp_path / "w.whl", ENTRY, (name, b"x")), tmp_path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_a_link_or_device_is_refused(tmp_path: Path, kind: int) -> None:
    made = wheel(tmp_path / "w.whl", ENTRY, ("probe/link", b"/etc/passwd"), kind=kind)
    assert "neither a file nor a directory" in refused(made, tmp_path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "MOST_BYTES", 4 << 20)
    monkeypatch.delattr(zips, "_write")
    members = [(f"probe/{number}.bin", bytes(1 << 20)) for number in range(5)]
    assert "unpacks to more than 4 MiB" in refused(wheel(tmp_path / "w.whl", ENTRY, *members), tmp_path)


def test_a_bomb_that_announces_little_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "MOST_BYTES", 1 << 20)
    size = 4 << 20
    path = Path(wheel(tmp_path / "w.whl", ENTRY, ("probe/bomb.bin", bytes(size))))
    content = path.read_bytes()
    assert content.count(struct.pack("<I", size)) == 2, "in the member's header and in the directory"
    path.write_bytes(content.replace(struct.pack("<I", size), struct.pack("<I", 1000)))
    assert "cannot be read to its end" in refused(str(path), tmp_path)


def test_what_is_packed_in_a_way_of_its_own_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.whl", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr(ENTRY[0], ENTRY[1])
    assert "neither stored nor deflated" in refused(str(tmp_path / "w.whl"), tmp_path)


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "MOST_MEMBERS", 3)
    members = [(f"probe/{number}.py", b"") for number in range(3)]
    assert "holds 4 files" in refused(wheel(tmp_path / "w.whl", ENTRY, *members), tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    made = wheel(tmp_path / "w.whl", ENTRY, ("probe.py", b"1"), ("probe.py", b"2"))
    assert "probe.py is in it twice" in refused(made, tmp_path)


def test_what_has_no_plugin_or_needs_an_installer_is_refused(tmp_path: Path) -> None:
    assert "no entry_points.txt" in refused(wheel(tmp_path / "a.whl", ("probe.py", b"")), tmp_path)
    made = wheel(tmp_path / "b.whl", ENTRY, ("probe-1.0.data/scripts/probe", b""))
    assert "installed elsewhere" in refused(made, tmp_path)


@given(cut=st.integers(min_value=0, max_value=2000), flip=st.integers(min_value=0, max_value=2000))
def test_a_damaged_archive_is_refused_and_leaves_nothing(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int
) -> None:
    place = tmp_path_factory.mktemp("damaged")
    whole = Path(wheel(place / "w.whl", ENTRY, ("probe/hooks.py", os.urandom(400)))).read_bytes()
    damaged = bytearray(whole[: max(0, len(whole) - cut)])
    if damaged:
        damaged[flip % len(damaged)] ^= 0xFF
    (place / "w.whl").write_bytes(damaged)
    failure = failure_of(str(place / "w.whl"), place)
    if failure is None:  # the change hit a place that nothing reads, such as a date
        assert zipfile.ZipFile(io.BytesIO(damaged)).testzip() is None
    else:
        assert failure.kind is FailureKind.CORRUPTION
        assert [item.name for item in place.iterdir()] == ["w.whl"]
