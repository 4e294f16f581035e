from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent import CVMFS
from pilot_agent.containers.cvmfs_paths import logical, physical, resolve
from pilot_agent.containers.images import Located, Refused, locate_all
from pilot_agent.containers.restrictions import OfLayer, Restrictions
from pilot_agent.model import ImageCandidate

REPOSITORY = "images.example.org"
MOUNT = "/scratch/pilot-1/cvmfs/dist/cvmfs"


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/cvmfs", MOUNT),
        ("/cvmfs/a.example.org/x", f"{MOUNT}/a.example.org/x"),
        ("/cvmfs2/x", "/cvmfs2/x"),
        ("/images/cvmfs/x", "/images/cvmfs/x"),
        ("docker://cvmfs/x", "docker://cvmfs/x"),
    ],
)
def test_a_path_of_cvmfs_has_a_place_and_others_are_what_they_are(path: str, place: str) -> None:
    assert physical(path, MOUNT) == place
    assert logical(place, MOUNT) == path
    assert physical(path, CVMFS) == logical(path, CVMFS) == path


@given(st.lists(st.sampled_from(["a", "..", ".", "", "cvmfs", "x.y"]), max_size=6).map("/".join))
def test_there_and_back_again_is_the_same_path(rest: str) -> None:
    path = f"{CVMFS}/{rest}"
    assert logical(physical(path, MOUNT), MOUNT) == path


@pytest.fixture
def mount_point(tmp_path: Path) -> str:
    """A repository with an image, to which links of all kinds lead."""
    repository = tmp_path / "cvmfs" / REPOSITORY
    (repository / ".images/a1/etc").mkdir(parents=True)
    (repository / "el9").symlink_to(f"/cvmfs/{REPOSITORY}/.images/a1")
    (repository / "relative").symlink_to("./.images/../el9")
    (repository / "loop").symlink_to(f"/cvmfs/{REPOSITORY}/loop")
    (repository / "gone").symlink_to("/cvmfs/gone.example.org/x")
    (repository / "out").symlink_to("/usr")
    (tmp_path / "site").symlink_to(f"/cvmfs/{REPOSITORY}/el9")
    return str(tmp_path / "cvmfs")


def test_links_that_say_cvmfs_lead_to_where_it_is_mounted(mount_point: str) -> None:
    image = f"/cvmfs/{REPOSITORY}/.images/a1"
    outside = f"{os.path.dirname(mount_point)}/site"
    for name in (
        f"/cvmfs/{REPOSITORY}/el9",
        f"/cvmfs/{REPOSITORY}/relative/",
        outside,
        f"{mount_point}/{REPOSITORY}/el9",
    ):
        assert resolve(name, mount_point) == image
    assert resolve(f"/cvmfs/{REPOSITORY}/el9/etc/../etc", mount_point) == f"{image}/etc"
    assert resolve(f"/cvmfs/{REPOSITORY}/out", mount_point) == "/usr"
    assert resolve(outside.removesuffix("/site"), mount_point) == os.path.dirname(mount_point)


@pytest.mark.parametrize(("name", "number"), [("loop", errno.ELOOP), ("gone", errno.ENOENT), ("none", errno.ENOENT)])
def test_what_leads_nowhere_is_an_error(mount_point: str, name: str, number: int) -> None:
    with pytest.raises(OSError) as raised:  # noqa: PT011 - the number is what is compared
        resolve(f"/cvmfs/{REPOSITORY}/{name}", mount_point)
    assert raised.value.errno == number


def test_a_node_with_cvmfs_of_its_own_asks_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/usr/../usr")
    assert resolve(str(tmp_path / "link"), CVMFS) == "/usr"


def located(mount_point: str, path: str, **rules: tuple[OfLayer, ...]) -> Located | Refused:
    (found,) = locate_all([ImageCandidate("el9", path)], None, Restrictions(**rules), mount_point)
    return found


def test_a_candidate_is_found_by_the_name_that_jobs_know(mount_point: str) -> None:
    found = located(mount_point, f"/cvmfs/{REPOSITORY}/el9")
    assert isinstance(found, Located)
    assert (found.path, found.form, found.source) == (f"/cvmfs/{REPOSITORY}/.images/a1", "directory", "cvmfs")
    missing = located(mount_point, f"/cvmfs/{REPOSITORY}/gone")
    assert isinstance(missing, Refused)
    assert missing.code == "image.missing"


def test_restrictions_count_for_the_name_that_jobs_know(mount_point: str) -> None:
    path = f"/cvmfs/{REPOSITORY}/el9"
    for allowed, taken in ((f"/cvmfs/{REPOSITORY}", True), ("/cvmfs/other.example.org", False), (mount_point, False)):
        found = located(mount_point, path, prefixes=(OfLayer("site", (allowed,)),))
        assert isinstance(found, Located) == taken
    assert isinstance(located(mount_point, path, sources=(OfLayer("site", ("cvmfs",)),)), Located)
