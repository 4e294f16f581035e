"""Files of an image: links lead where they would lead inside, and never out of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilot_agent.containers.inside_directory import read_inside


@pytest.fixture
def image(tmp_path: Path) -> Path:
    root = tmp_path / "image"
    (root / "usr/lib").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "usr/lib/os-release").write_text("ID=inside\n")
    (tmp_path / "secret").write_text("outside")
    return root


def test_relative_and_absolute_links_are_taken_as_inside(image: Path) -> None:
    (image / "etc/relative").symlink_to("../usr/lib/os-release")
    (image / "etc/absolute").symlink_to("/usr/lib/os-release")
    (image / "lib").symlink_to("usr/lib")
    for path in ("/etc/relative", "/etc/absolute", "/lib/os-release", "etc/../lib//./os-release"):
        assert read_inside(str(image), path, 100) == b"ID=inside\n"


def test_no_link_leads_out(image: Path, tmp_path: Path) -> None:
    (image / "etc/up").symlink_to("../../secret")
    (image / "etc/far").symlink_to("../../../../../../../../../../../../" + str(tmp_path / "secret"))
    (image / "etc/absolute").symlink_to(tmp_path / "secret")
    (image / "out").symlink_to("..")
    for path in ("/etc/up", "/etc/far", "/etc/absolute", "/out/secret", "/../secret", "../secret"):
        assert read_inside(str(image), path, 100) is None


def test_what_is_no_file_is_nothing(image: Path) -> None:
    os.mkfifo(image / "pipe")
    (image / "loop").symlink_to("loop")
    (image / "a").symlink_to("b/x")
    (image / "b").symlink_to("a/x")
    (image / "dangling").symlink_to("nothing")
    for path in ("/pipe", "/loop", "/a", "/dangling", "/etc", "/", "", "/missing", "/usr/lib/os-release/x"):
        assert read_inside(str(image), path, 100) is None


def test_only_so_much_is_read(image: Path) -> None:
    assert read_inside(str(image), "/usr/lib/os-release", 2) == b"ID"


def test_a_root_that_is_not_there_is_nothing(tmp_path: Path) -> None:
    assert read_inside(str(tmp_path / "missing"), "/x", 10) is None
