"""Whether a client's programs load is asked of the loader, with programs of this machine that were altered."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from pilot_agent.cvmfs.loading import CLIENT, LOADERS, load_problem
from tests.cvmfs.shop import MISSING, library

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


def program() -> bytes:
    """A small program of this machine that needs more libraries than the C library."""
    return Path("/bin/ls").resolve().read_bytes()


def lay(root: Path, name: str, content: bytes) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o755)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The part of a distribution that is loaded."""
    lay(tmp_path, CLIENT, program())
    lay(tmp_path, "dist/usr/lib64/libcvmfs_fuse3.so", library())
    return tmp_path


def test_a_client_whose_libraries_are_there_loads(root: Path) -> None:
    assert load_problem(str(root), ENVIRONMENT) == ""


def test_a_client_that_only_says_its_version_is_no_proof(root: Path) -> None:
    """The program runs, and the library that it would load later does not."""
    lay(root, "dist/usr/lib64/libcvmfs_fuse3.so", library(MISSING))
    assert subprocess.run([str(root / CLIENT), "--version"], capture_output=True, check=False).returncode == 0
    said = load_problem(str(root), ENVIRONMENT)
    assert said == "libcvmfs_fuse3.so needs libpcre2-8.so.9, which this node does not have"


def test_a_newer_c_library_than_the_nodes_is_named(root: Path) -> None:
    newer = re.sub(rb"GLIBC_2\.3\d", b"GLIBC_9.87", program())
    lay(root, CLIENT, newer)
    assert load_problem(str(root), ENVIRONMENT) == "cvmfs2 needs GLIBC_9.87, which this node does not have"


def test_a_library_that_the_distribution_brings_along_is_found_in_it(root: Path) -> None:
    lay(root, "dist/usr/lib64/libcvmfs_fuse3.so", library(MISSING))
    told = subprocess.run(["ldd", "/bin/ls"], capture_output=True, text=True, check=True).stdout
    (path,) = re.findall(r"libpcre2-8\S+ => (\S+)", told)
    lay(root, "dist/usr/lib64/libpcre2-8.so.9", Path(path).read_bytes())
    assert load_problem(str(root), ENVIRONMENT) == ""


def test_one_of_the_two_versions_of_fuse_will_do(root: Path) -> None:
    lay(root, "dist/usr/lib64/libcvmfs_fuse.so", library(MISSING))
    assert load_problem(str(root), ENVIRONMENT) == ""
    lay(root, "dist/usr/lib64/libcvmfs_fuse3_stub.so", b"")
    said = load_problem(str(root), ENVIRONMENT)
    assert "libcvmfs_fuse3_stub.so: file too short" in said
    assert "libcvmfs_fuse.so needs libpcre2-8.so.9" in said


def test_a_distribution_without_the_clients_library_is_none(tmp_path: Path) -> None:
    lay(tmp_path, CLIENT, program())
    assert load_problem(str(tmp_path), ENVIRONMENT) == "it has no library libcvmfs_fuse*.so"


def test_a_node_without_glibc_gets_a_sentence(root: Path) -> None:
    strange = next(
        machine for machine in LOADERS if machine != os.uname().machine and not os.path.exists(LOADERS[machine])
    )
    assert f"no loader {LOADERS[strange]}" in load_problem(str(root), ENVIRONMENT, machine=strange)
    assert "no loader of sparc64" in load_problem(str(root), ENVIRONMENT, machine="sparc64")
