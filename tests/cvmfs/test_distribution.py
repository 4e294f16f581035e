from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from pilot_agent.cvmfs import distribution as module
from pilot_agent.cvmfs.distribution import Distribution, lay_out, place_problem
from pilot_agent.model import Failure, FailureKind, PilotError
from tests.cvmfs.distributions import CONFIGURATION, make, write


def refusal(source: Path, directory: Path) -> Failure:
    """Why nothing is laid out; and nothing is left of the attempt."""
    with pytest.raises(PilotError) as raised:
        lay_out(str(source), str(directory))
    assert not directory.exists()
    return raised.value.failure


def files(root: Path) -> set[str]:
    return {os.path.relpath(os.path.join(parent, name), root) for parent, _, names in os.walk(root) for name in names}


def archive(path: Path, source: Path, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        tar.add(source, arcname=".")
    return path


@pytest.mark.parametrize("packed", ["", "w", "w:gz"], ids=["directory", "tar", "tar.gz"])
def test_a_copy_has_the_programs_and_links_and_nothing_that_runs_left(tmp_path: Path, packed: str) -> None:
    source = make(tmp_path / "source")
    os.link(source / "dist/usr/bin/cvmfs2", source / "dist/usr/bin/cvmfs_talk")
    for left in ("dist/cvmfs/a.example.org/file", "dist/var/lib/cvmfs/shared/cached", "log/a.log", "mnt/bin", "x"):
        write(source / left, "left")
    given = archive(tmp_path / "archive", source, packed) if packed else source
    laid = lay_out(str(given), str(tmp_path / "cvmfs"))
    assert files(tmp_path / "cvmfs") == {
        "mountrepo",
        "umountrepo",
        "dist/usr/bin/cvmfs2",
        "dist/usr/bin/cvmfs_talk",
        "dist/usr/lib/libcvmfs_fuse3_stub.so",
        "dist/usr/lib/libcvmfs_fuse3_stub.so.2.12.0",
        "dist/.cvmfsexecdist",
        "dist/etc/cvmfs/default.conf",
        "dist/etc/cvmfs/default.d/60-example.conf",
    }
    assert os.access(laid.mountrepo, os.X_OK)
    assert os.readlink(tmp_path / "cvmfs/dist/usr/lib/libcvmfs_fuse3_stub.so") == "libcvmfs_fuse3_stub.so.2.12.0"
    assert not os.access(tmp_path / "cvmfs/dist/etc/cvmfs/default.conf", os.X_OK)
    assert os.listdir(laid.mount_point) == []
    assert laid.configuration_repository() == CONFIGURATION
    assert laid.point("a.example.org") == f"{tmp_path}/cvmfs/dist/cvmfs/a.example.org"


def test_links_that_lead_out_stay_behind(tmp_path: Path) -> None:
    source = make(tmp_path / "source")
    os.symlink("/etc/passwd", source / "dist/etc/absolute")
    os.symlink("../../../elsewhere", source / "dist/etc/relative")
    os.symlink("cvmfs/default.conf", source / "dist/etc/inside")
    lay_out(str(source), str(tmp_path / "cvmfs"))
    assert sorted(os.listdir(tmp_path / "cvmfs/dist/etc")) == ["cvmfs", "inside"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda source: os.remove(source / "umountrepo"), "it has no program umountrepo"),
        (lambda source: os.chmod(source / "dist/usr/bin/cvmfs2", 0o644), "no program dist/usr/bin/cvmfs2"),
        (lambda source: write(source / "dist/.cvmfsexecdist", "disttype: sing\n"), "made for singcvmfs"),
        (lambda source: os.chmod(source / "dist/etc", 0o777), "dist/etc may be written by everybody"),
        (lambda source: os.chmod(source / "mountrepo", 0o777), "mountrepo may be written by everybody"),
    ],
    ids=["a command is missing", "the client cannot be run", "for singcvmfs", "directory of others", "file of others"],
)
def test_what_is_no_distribution_is_refused(open_path: Path, spoil: Callable[[Path], object], said: str) -> None:
    source = make(open_path / "source")
    spoil(source)
    failure = refusal(source, open_path / "cvmfs")
    assert (failure.kind, failure.code) == (FailureKind.CONFIG, "cvmfs.distribution")
    assert said in failure.message


def test_a_distribution_of_another_account_is_refused(tmp_path: Path) -> None:
    source = make(tmp_path / "source")
    os.chown(source / "dist/usr/bin/cvmfs2", 1234, 1234)
    assert "belongs to the account 1234" in refusal(source, tmp_path / "cvmfs").message


@pytest.mark.parametrize("name", ["with blank", "with,comma", "with'quote", 'with"quote', "with$dollar"])
def test_a_place_that_the_scripts_would_lose_is_refused_also_behind_a_link(tmp_path: Path, name: str) -> None:
    source = make(tmp_path / "source")
    (tmp_path / name).mkdir()
    (tmp_path / "plain").symlink_to(tmp_path / name)
    for directory in (tmp_path / name / "cvmfs", tmp_path / "plain" / "cvmfs"):
        failure = refusal(source, directory)
        assert (failure.kind, "blanks, quotes" in failure.message) == (FailureKind.NODE_RESOURCE, True)
    assert place_problem(str(tmp_path)) == ""


def test_a_source_that_is_missing_or_no_archive_is_refused(tmp_path: Path) -> None:
    assert "is not there" in refusal(tmp_path / "none", tmp_path / "cvmfs").message
    text = write(tmp_path / "text", "#!/bin/sh\n")
    assert "is no tar archive" in refusal(text, tmp_path / "cvmfs").message
    whole = archive(tmp_path / "whole.tar.gz", make(tmp_path / "source"))
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(whole.read_bytes()[:-200])
    assert "is no tar archive that can be read to its end" in refusal(cut, tmp_path / "cvmfs").message


@pytest.mark.parametrize("name", ["/etc/evil", "../evil", "dist/../../evil"])
def test_an_archive_cannot_write_outside(tmp_path: Path, name: str) -> None:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo(name), BytesIO())
    assert "leads out of its directory" in refusal(path, tmp_path / "cvmfs").message


@pytest.mark.parametrize(
    ("kind", "link", "headers"),
    [
        (tarfile.LNKTYPE, "dist/none", {}),
        (tarfile.LNKTYPE, "dist/odd", {}),
        (tarfile.SYMTYPE, "", {"linkpath": "a\0b"}),
        (tarfile.REGTYPE, "", {"GNU.sparse.map": "no,number", "GNU.sparse.size": "3"}),
    ],
    ids=["a hard link to nothing", "a hard link to itself", "a zero in a link", "no number"],
)
def test_an_archive_whose_headers_make_no_sense_is_refused_and_leaves_nothing(
    tmp_path: Path, kind: bytes, link: str, headers: dict[str, str]
) -> None:
    path = archive(tmp_path / "d.tar", make(tmp_path / "source"), "w")
    entry = tarfile.TarInfo("dist/odd")
    entry.type, entry.linkname, entry.pax_headers = kind, link, headers
    with tarfile.open(path, "a", format=tarfile.PAX_FORMAT) as whole:
        whole.addfile(entry)
    assert "is no tar archive that can be read to its end" in refusal(path, tmp_path / "cvmfs").message
    assert not (tmp_path / "cvmfs").exists()


def test_an_archive_cannot_write_through_its_own_link(tmp_path: Path) -> None:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("dist/there")
        link.type, link.linkname = tarfile.SYMTYPE, "usr"
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("dist/there/file"), BytesIO())
    assert "lies below a link" in refusal(path, tmp_path / "cvmfs").message


def test_a_huge_distribution_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make(tmp_path / "source")
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    assert "holds more than" in refusal(source, tmp_path / "cvmfs").message
    monkeypatch.setattr(module, "MOST_BYTES", 1 << 20)
    monkeypatch.setattr(module, "MOST_MEMBERS", 5)
    assert "holds more than 5 files" in refusal(source, tmp_path / "cvmfs").message


def test_a_copy_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    failure = refusal(make(tmp_path / "source"), tmp_path / "none" / "cvmfs")
    assert (failure.kind, failure.code) == (FailureKind.NODE_RESOURCE, "cvmfs.layout")
    assert "No such file or directory" in failure.message


def test_the_last_file_names_the_configuration_repository(tmp_path: Path) -> None:
    root = make(tmp_path / "source", configuration="")
    assert Distribution(str(root)).configuration_repository() is None
    write(root / "dist/etc/cvmfs/default.d/10-a.conf", "CVMFS_CONFIG_REPOSITORY=first.example.org\n")
    write(root / "dist/etc/cvmfs/default.d/90-b.conf", 'CVMFS_CONFIG_REPOSITORY="last.example.org"\n')
    write(root / "dist/etc/cvmfs/default.d/95-c.text", "CVMFS_CONFIG_REPOSITORY=none.example.org\n")
    assert Distribution(str(root)).configuration_repository() == "last.example.org"
    write(root / "dist/etc/cvmfs/default.d/99-d.conf", "CVMFS_CONFIG_REPOSITORY='../evil'\n")
    assert Distribution(str(root)).configuration_repository() is None
