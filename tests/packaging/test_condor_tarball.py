"""What an execute node needs of HTCondor is collected with its libraries, and packed to the same bits each time.

Relocation and a real HTCondor are tested in tests/integration/test_condor_tarball.py.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot_agent.startd.artifacts import CONDOR
from pilot_agent.tarballs.index import Tarball, parse_index
from pilot_agent.tarballs.unpacking import unpack
from tests.packaging.conftest import PROJECT

SHELL = Path("/bin/sh").resolve()
STARTER = b"#!/bin/sh\n# $CondorVersion: 23.9.6 2026-07-12 $\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A distribution's tree with an HTCondor of programs of this machine, with all that those load."""
    from condor_tarball.contents import NEEDED

    root = tmp_path / "tree"
    folders = {"sbin": "usr/sbin", "bin": "usr/bin", "libexec": "usr/libexec/condor"}
    for wanted in NEEDED:
        part, _, name = wanted.partition("/")
        path = root / folders[part] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(STARTER if name == "condor_starter" else Path(sys.executable).resolve().read_bytes())
        path.chmod(0o700)
    (root / "etc").mkdir()
    (root / "etc/os-release").write_text('PRETTY_NAME="X"\nID=rocky\nVERSION_ID="9.4"\n')
    (root / "usr/lib64").mkdir()
    for library in _libraries(Path(sys.executable)):
        (root / "usr/lib64" / library.name).write_bytes(library.read_bytes())
    return root


def _libraries(program: Path) -> list[Path]:
    told = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    words = [line.split("=>")[1].split()[0] for line in told.splitlines() if "=> /" in line]
    return [Path(word) for word in words]


def test_an_elf_file_says_what_it_loads() -> None:
    from condor_tarball.elf import read_elf

    found = read_elf(SHELL.read_bytes(), "sh")
    assert found is not None
    assert found.machine == os.uname().machine
    assert "libc.so.6" in found.needed
    assert any(version.startswith("GLIBC_2.") for version in found.versions["libc.so.6"])
    assert read_elf(b"#!/bin/sh\n", "script") is None


def test_a_library_says_its_name() -> None:
    from condor_tarball.elf import read_elf

    library = next(path for path in _libraries(SHELL) if path.name == "libc.so.6")
    found = read_elf(library.read_bytes(), "libc")
    assert found is not None
    assert found.soname == "libc.so.6"


@settings(deadline=None)
@given(st.integers(0, 4000), st.binary(min_size=1, max_size=40))
def test_a_damaged_elf_file_is_refused_or_read(place: int, change: bytes) -> None:
    from condor_tarball.elf import read_elf
    from payload.console import BuildError

    content = bytearray(SHELL.read_bytes())
    content[place : place + len(change)] = change
    try:
        read_elf(bytes(content), "sh")
    except BuildError as error:
        assert str(error).startswith("sh is")  # noqa: PT017 - both ends are right


def test_the_members_are_what_a_startd_needs_and_the_libraries_of_all(tree: Path) -> None:
    from condor_tarball.contents import NEEDED, distribution_of, installed, version_of
    from condor_tarball.libraries import C_LIBRARY, architecture_of, with_libraries

    members = with_libraries(installed(tree), tree)
    names = [member.name for member in members]
    assert names == sorted(names)
    targets = {f"libexec/condor/{name[8:]}" if name.startswith("libexec/") else name for name in NEEDED}
    assert targets <= set(names)
    private = [name.removeprefix("lib/private/") for name in names if name.startswith("lib/private/")]
    assert not [name for name in private if C_LIBRARY.fullmatch(name)]
    assert {member.executable for member in members if member.name in targets} == {True}
    assert version_of(members) == "23.9.6"
    assert distribution_of(tree) == ("rocky", "9.4")
    assert architecture_of(members) == os.uname().machine


def test_the_c_library_that_is_needed_is_the_newest_that_anything_asks_for() -> None:
    from condor_tarball.contents import Member
    from condor_tarball.elf import read_elf
    from condor_tarball.libraries import glibc_of

    content = SHELL.read_bytes()
    found = glibc_of([Member("sh", content, executable=True)])
    elf = read_elf(content, "sh")
    assert elf is not None
    wanted = [version.split("_")[1] for version in elf.versions["libc.so.6"] if version[6:7].isdigit()]
    assert tuple(map(int, found.split("."))) == max(tuple(map(int, one.split(".")[:2])) for one in wanted)
    assert glibc_of([]) == "2.0"


@pytest.mark.parametrize("missing", ["usr/sbin/condor_startd", "usr/libexec/condor/curl_plugin"])
def test_half_an_installation_is_refused_with_what_it_lacks(tree: Path, missing: str) -> None:
    from condor_tarball.contents import installed
    from payload.console import BuildError

    (tree / missing).unlink()
    with pytest.raises(BuildError, match=Path(missing).name):
        installed(tree)


def test_a_library_that_the_tree_lacks_is_named(tree: Path) -> None:
    from condor_tarball.contents import Member
    from condor_tarball.libraries import with_libraries
    from payload.console import BuildError

    content = SHELL.read_bytes().replace(b"libc.so.6\0", b"libz.so.9\0")
    with pytest.raises(BuildError, match=r"no library libz\.so\.9"):
        with_libraries([Member("bin/sh", content, executable=True)], tree)


def test_links_of_a_tree_lead_nowhere_else(tree: Path) -> None:
    from condor_tarball.contents import resolved

    (tree / "usr/sbin/absolute").symlink_to("/usr/bin/condor_ping")
    (tree / "usr/sbin/upwards").symlink_to("../../../../../../usr/bin/condor_ping")
    (tree / "usr/sbin/circle").symlink_to("circle")
    (tree / "lib64").symlink_to("usr/lib64")
    for name in ("absolute", "upwards"):
        assert resolved(tree, f"usr/sbin/{name}") == tree / "usr/bin/condor_ping"
    assert resolved(tree, "usr/sbin/circle") is None
    assert resolved(tree, "lib64/../bin/condor_ping") == tree / "usr/bin/condor_ping"
    assert resolved(tree, "usr/sbin/nothing") is None


def test_the_same_members_give_the_same_bits_in_order_and_without_owners_and_times() -> None:
    from condor_tarball.archive import pack
    from condor_tarball.contents import Member

    members = [Member("sbin/b", b"b", executable=True), Member("sbin/a", b"a", executable=False)]
    content = pack(members)
    assert content == pack(list(reversed(members)))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        entries = archive.getmembers()
    assert [(entry.name, entry.mode) for entry in entries] == [("sbin", 0o755), ("sbin/a", 0o644), ("sbin/b", 0o755)]
    assert {(entry.uid, entry.gid, entry.uname, entry.mtime) for entry in entries} == {(0, 0, "", 315532800)}


def test_the_pilot_unpacks_what_was_packed(tmp_path: Path) -> None:
    from condor_tarball.archive import complete, pack, tree_digest
    from condor_tarball.contents import Member
    from condor_tarball.listing import Manifest, add_to_index

    members = [Member("sbin/b", b"b" * 5000, executable=True), Member("lib/empty", None, executable=True)]
    content = pack(members)
    (tmp_path / "c.tar.gz").write_bytes(content)
    manifest = Manifest(
        version="1.2.3", os="debian", os_version="13", architecture="x86_64", glibc="2.38", file="c.tar.gz",
        size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), unpacked_bytes=5000,
        members=len(complete(members)), tree_sha256=tree_digest(members),
    )  # fmt: skip
    (entry,) = parse_index(add_to_index(tmp_path, manifest), "here", CONDOR, Tarball)
    unpack(str(tmp_path / "c.tar.gz"), str(tmp_path / "there"), entry, CONDOR, time.monotonic() + 60)
    assert (tmp_path / "there/sbin/b").read_bytes() == b"b" * 5000
    assert (tmp_path / "there/lib/empty").is_dir()


def test_an_index_lists_several_tarballs_and_each_once(tmp_path: Path) -> None:
    from condor_tarball.listing import Manifest, add_to_index
    from payload.console import BuildError

    values = json.loads((PROJECT / "tests/packaging/condor_manifest.json").read_text())
    first, second = Manifest(**values), Manifest(**values | {"file": "a.tar.gz"})
    one_way = [add_to_index(tmp_path / "x", entry) for entry in (first, second, first)][-1]
    other_way = [add_to_index(tmp_path / "y", entry) for entry in (second, first)][-1]
    assert one_way == other_way
    assert [entry["file"] for entry in json.loads(one_way)["tarballs"]] == ["a.tar.gz", values["file"]]
    (tmp_path / "x/index.json").write_text("{}")
    with pytest.raises(BuildError, match="move it away"):
        add_to_index(tmp_path / "x", first)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--root", "/nonexistent"], "no etc/os-release"),
        (["--root", "/nonexistent", "--os", "debian:13"], "has no sbin/condor_master"),
        (["--root", "/", "--os", "debian"], "NAME:VERSION"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path: Path, words: list[str], said: str) -> None:
    command = [sys.executable, str(PROJECT / "packaging/build_condor.py"), "--output", str(tmp_path / "out"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
