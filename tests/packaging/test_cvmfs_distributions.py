"""What upstream's makedist makes is packed to the same bits, described by what its files say, and published for pilots.

makedist itself needs the internet; here is a stand-in with its command line, files and exit codes.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from pilot_agent.cvmfs.obtaining import DistributionRequest, obtain_distribution
from pilot_agent.cvmfs.offer import DISTRIBUTIONS, Offer
from pilot_agent.tarballs.index import MOST_BYTES, MOST_MEMBERS, MOST_UNPACKED_BYTES, NodeSystem, parse_index
from tests.cvmfs.shop import library
from tests.packaging.conftest import PROJECT
from tests.packaging.cvmfsexec_stand_in import checkout, package
from tests.testbed import images

MACHINE = os.uname().machine
EL9 = f"rhel9-{MACHINE}"


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    """A checkout with packages for one platform of this machine."""
    directory = checkout(tmp_path / "cvmfsexec")
    package(directory, EL9, Path("/bin/ls").read_bytes(), library())
    return directory


def make(upstream: Path, *words: str, machine: str = EL9, code: int = 0) -> subprocess.CompletedProcess[str]:
    output = upstream.parent / "shop"
    command = [sys.executable, str(PROJECT / "packaging/cvmfs_distributions.py"), "--cvmfsexec", str(upstream)]
    command += ["--output", str(output), "--machine", machine, *words]
    if "--source" not in words:
        command += ["--source", "osg"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def entries(upstream: Path) -> list[dict[str, object]]:
    content: dict[str, list[dict[str, object]]] = json.loads((upstream.parent / "shop/index.json").read_bytes())
    return content["tarballs"]


def names(upstream: Path) -> set[str]:
    (archive,) = (upstream.parent / "shop").glob("*.tar.gz")
    with tarfile.open(archive) as file:
        return set(file.getnames())


def test_a_distribution_is_described_by_what_its_files_say(upstream: Path) -> None:
    make(upstream)
    (entry,) = entries(upstream)
    assert (entry["version"], entry["cvmfsexec"]) == ("2.12.0", "4.51")
    assert (entry["source"], entry["machine_type"]) == ("osg", EL9)
    assert (entry["os"], entry["os_version"], entry["architecture"]) == ("rhel", "9", MACHINE)
    assert "libpcre2-8.so.0" in str(entry["needs"])
    assert "libc.so.6" not in str(entry["needs"])
    assert str(entry["made"]).endswith("Z")
    archive = (upstream.parent / "shop" / str(entry["file"])).read_bytes()
    assert (entry["sha256"], entry["size_bytes"]) == (hashlib.sha256(archive).hexdigest(), len(archive))


def test_the_c_library_that_is_needed_is_measured(tmp_path: Path) -> None:
    """With programs of the testbed's Debian 13 and 12, whatever this machine has."""
    trees, found = images.ensure(), {}
    for tree in ("debian12", "debian13"):
        directory = checkout(tmp_path / tree / "cvmfsexec")
        library_of = trees / tree / f"usr/lib/{MACHINE}-linux-gnu/libselinux.so.1"
        package(directory, EL9, (trees / tree / "usr/bin/ls").read_bytes(), library_of.read_bytes())
        make(directory)
        found[tree] = entries(directory)[0]["glibc"]
    assert found == {"debian12": "2.34", "debian13": "2.38"}


def test_the_pilot_takes_what_was_made(upstream: Path, tmp_path: Path) -> None:
    said = make(upstream).stdout
    shop, artifacts = tmp_path / "shop", tmp_path / "artifacts"
    artifacts.mkdir(mode=0o700)
    digest = hashlib.sha256((shop / "index.json").read_bytes()).hexdigest()
    assert digest in said
    node = NodeSystem("rocky", "9.4", ("rhel",), MACHINE, "2.99")
    request = DistributionRequest(
        artifacts=str(artifacts), environment=os.environ, index=str(shop), index_sha256=digest, node=node
    )
    choice = obtain_distribution(request, str(tmp_path / "client"))
    assert choice.taken is not None
    assert choice.taken.machine_type == EL9
    assert (tmp_path / "client/dist/usr/lib64/libcvmfs_fuse3.so").read_bytes() == library()
    assert os.access(tmp_path / "client/mountrepo", os.X_OK)


def test_the_same_packages_give_the_same_bits_and_the_same_index(upstream: Path) -> None:
    make(upstream)
    shop = upstream.parent / "shop"
    before = {path.name: path.read_bytes() for path in shop.iterdir()}
    (upstream / f"packages/{EL9}/usr/bin/cvmfs2").touch()
    make(upstream)
    assert {path.name: path.read_bytes() for path in shop.iterdir()} == before


def test_what_runs_left_and_what_leads_out_is_not_packed(upstream: Path) -> None:
    place = upstream / "packages" / EL9
    for name in ("var/lib/cvmfs/shared/cache", "var/run/cvmfs/socket", "cvmfs/x.example.org/file", "usr/share/kept"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("x")
    (place / "usr/share/absolute").symlink_to("/usr/share/kept")
    (place / "usr/share/outside").symlink_to("../../../../../../../../etc/shadow")
    (place / "usr/share/kept").chmod(0o4755)
    make(upstream)
    found = names(upstream)
    assert {"dist/var/lib/cvmfs", "dist/var/run/cvmfs", "dist/cvmfs", "dist/usr/share/absolute"} <= found
    assert {"cvmfsexec", "mountrepo", "umountrepo"} <= found
    assert not {"makedist", "dist/usr/share/outside", "dist/var/lib/cvmfs/shared", "dist/cvmfs/x.example.org"} & found
    (archive,) = (upstream.parent / "shop").glob("*.tar.gz")
    with tarfile.open(archive) as file:
        assert {member.type for member in file.getmembers()} == {tarfile.DIRTYPE, tarfile.REGTYPE}
        assert {member.mode for member in file.getmembers()} <= {0o755, 0o644}


def test_a_link_in_a_circle_is_an_error(upstream: Path) -> None:
    (upstream / "packages" / EL9 / "usr/lib64/circle").symlink_to("../lib64")
    assert "leads in a circle" in make(upstream, code=1).stderr


def test_the_dist_of_the_checkout_is_neither_used_nor_in_the_way(upstream: Path) -> None:
    (upstream / "dist/usr").mkdir(parents=True)
    (upstream / "dist/usr/mine").write_text("x")
    make(upstream)
    assert "dist/usr/mine" not in names(upstream)
    assert (upstream / "dist/usr/mine").exists()


@pytest.mark.parametrize(
    ("damage", "machine", "said"),
    [
        ("", "rhel7-x86_64", "ended with 1 (it has no packages for this platform and source"),
        (f"packages/{EL9}/broken", EL9, "The requested URL returned error: 404"),
        ("no-rpm2cpio", EL9, "needs curl, rpm2cpio and cpio on this machine"),
    ],
)
def test_what_makedist_says_is_passed_on(upstream: Path, damage: str, machine: str, said: str) -> None:
    if damage:
        (upstream / damage).touch()
    done = make(upstream, machine=machine, code=1)
    assert said in done.stderr
    assert not (upstream.parent / "shop/index.json").exists()


def test_a_dist_that_is_half_made_is_never_published(upstream: Path) -> None:
    (upstream / f"packages/{EL9}/usr/lib64/libcvmfs_fuse3.so").unlink()
    said = make(upstream, code=1).stderr
    assert "makedist returned 0 and left dist without usr/lib64/libcvmfs_fuse*.so" in said
    assert not (upstream.parent / "shop/index.json").exists()


def test_a_makedist_that_hangs_is_given_up(upstream: Path) -> None:
    (upstream / f"packages/{EL9}/slow").touch()
    assert "did not end within 0.2 s" in make(upstream, "--deadline-seconds", "0.2", code=1).stderr


def test_a_platform_that_fails_does_not_keep_back_the_others(upstream: Path) -> None:
    done = make(upstream, "--machine", "rhel8-s390x", code=1)
    assert "osg rhel8-s390x: makedist" in done.stderr
    assert [entry["machine_type"] for entry in entries(upstream)] == [EL9]


def test_programs_of_another_architecture_than_asked_for_are_refused(upstream: Path) -> None:
    package(upstream, "rhel9-s390x", Path("/bin/ls").read_bytes(), library())
    done = make(upstream, machine="rhel9-s390x", code=1)
    assert f"was asked for s390x, and its programs are for {MACHINE}" in done.stderr


def test_a_directory_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cvmfsexec").mkdir()
    done = make(tmp_path / "cvmfsexec", "--source", "osg", "--source", "egi", code=1)
    assert done.stderr.count("has no cvmfsexec, mountrepo, umountrepo, makedist") == 1, "and not for every platform"


def test_an_update_keeps_what_waiting_pilots_were_told_of(upstream: Path) -> None:
    shop = upstream.parent / "shop"
    make(upstream)
    (first,), (pinned,) = entries(upstream), shop.glob("index-*.json")
    for version in ("2.13.0", "2.13.1"):
        place = upstream / "packages" / EL9 / "usr/lib64"
        (old,) = place.glob("libcvmfs_fuse3.so.*")
        old.rename(place / f"libcvmfs_fuse3.so.{version}")
        (place / "libcvmfs_fuse3.so").unlink()
        (place / "libcvmfs_fuse3.so").symlink_to(f"libcvmfs_fuse3.so.{version}")
        make(upstream, "--keep", "2")
    assert {entry["version"] for entry in entries(upstream)} >= {"2.13.1"}
    assert len(entries(upstream)) == 2
    assert (shop / str(first["file"])).exists()
    assert [offer.file for offer in parse_index(pinned.read_bytes(), "here", DISTRIBUTIONS, Offer)] == [first["file"]]


def test_what_nobody_waits_for_any_more_is_removed_when_asked(upstream: Path) -> None:
    shop = upstream.parent / "shop"
    make(upstream)
    (first,), (pinned,) = entries(upstream), shop.glob("index-*.json")
    (upstream / f"packages/{EL9}/usr/new").write_text("x")
    make(upstream, "--keep", "1", "--prune-days", "30")
    assert pinned.exists()
    long_ago = time.time() - 40 * 86400
    for path in shop.glob("index-*.json"):
        os.utime(path, (long_ago, long_ago))
    said = make(upstream, "--keep", "1", "--prune-days", "30").stdout
    assert f"removed {pinned}" in said
    assert not (shop / str(first["file"])).exists()
    (entry,) = entries(upstream)
    assert {path.name for path in shop.iterdir() if path.name.startswith("cvmfs-")} == {str(entry["file"])}
    assert len(list(shop.glob("index-*.json"))) == 1


def test_what_no_pilot_would_take_is_not_published() -> None:
    from cvmfs_distribution.publishing import MOST, Distribution, require_taken
    from payload.console import BuildError

    assert MOST == {"size_bytes": MOST_BYTES, "unpacked_bytes": MOST_UNPACKED_BYTES, "members": MOST_MEMBERS}
    values = json.loads((PROJECT / "tests/packaging/condor_manifest.json").read_text())
    more = {"source": "osg", "machine_type": EL9, "cvmfsexec": "4.51", "needs": (), "made": ""}
    require_taken(Distribution(**values | more))
    with pytest.raises(BuildError, match="pilots take 20000 at most"):
        require_taken(Distribution(**values | more | {"members": 20_001}))


def test_an_index_that_is_none_is_not_overwritten(upstream: Path) -> None:
    shop = upstream.parent / "shop"
    shop.mkdir()
    (shop / "index.json").write_text('{"schema": "something"}')
    assert "move it away, and it is written anew" in make(upstream, code=1).stderr
    assert (shop / "index.json").read_text() == '{"schema": "something"}'
