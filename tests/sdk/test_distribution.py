"""A plugin's sources become a wheel that a pilot takes, and always the same one."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from pilot_agent.model import PilotError
from pilot_agent.sdk.distribution import install, read_distribution, wheel
from pilot_agent.trust.wheels import unpack_wheel

PROJECT = """
[project]
name = "Example.VO-plugin"
version = "1.2"
description = "An example"
license = "MIT"

[project.entry-points.pilot_agent]
example = "example.hooks"
"""


def write_project(directory: Path, project: str = PROJECT) -> Path:
    """The sources of a plugin with a script that may be run, and with what tools leave."""
    package = directory / "src" / "example"
    (package / "__pycache__").mkdir(parents=True)
    (directory / "pyproject.toml").write_text(project)
    (directory / "LICENSE").write_text("words")
    (package / "hooks.py").write_text("x = 1\n")
    (package / "look.sh").write_text("#!/bin/sh\n")
    (package / "look.sh").chmod(0o755)
    (package / "__pycache__" / "hooks.pyc").write_bytes(b"junk")
    (package / ".hidden").write_text("junk")
    return directory


def test_the_same_sources_give_the_same_wheel_whatever_their_times(tmp_path: Path) -> None:
    first, second = write_project(tmp_path / "a"), write_project(tmp_path / "b")
    os.utime(second / "src" / "example" / "hooks.py", (1, 1))
    assert wheel(read_distribution(first)) == wheel(read_distribution(second))


def test_a_pilot_unpacks_the_wheel_to_what_was_in_the_sources(tmp_path: Path) -> None:
    found = read_distribution(write_project(tmp_path / "a"))
    assert found.wheel_name == "example_vo_plugin-1.2-py3-none-any.whl"
    assert dict(found.entry_points) == {"example": "example.hooks"}
    path = tmp_path / found.wheel_name
    path.write_bytes(wheel(found))
    unpack_wheel(str(path), str(tmp_path / "unpacked"))
    install(found, tmp_path / "installed")
    for name, content in found.files.items():
        for place in (tmp_path / "unpacked" / name, tmp_path / "installed" / name):
            assert place.read_bytes() == content
            assert os.access(place, os.X_OK) == name.endswith(".sh")
    assert sorted(found.files) == [
        "example/hooks.py",
        "example/look.sh",
        "example_vo_plugin-1.2.dist-info/METADATA",
        "example_vo_plugin-1.2.dist-info/entry_points.txt",
        "example_vo_plugin-1.2.dist-info/licenses/LICENSE",
    ]


def test_the_record_of_the_wheel_has_a_line_for_each_file(tmp_path: Path) -> None:
    found = read_distribution(write_project(tmp_path / "a"))
    path = tmp_path / found.wheel_name
    path.write_bytes(wheel(found))
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        record = archive.read("example_vo_plugin-1.2.dist-info/RECORD").decode().splitlines()
    assert len(record) == len(names)
    assert {line.partition(",")[0] for line in record} == set(names)
    assert "example_vo_plugin-1.2.dist-info/RECORD,," in record


@pytest.mark.parametrize(
    ("project", "reason"),
    [
        ("[project", "cannot be read"),
        (PROJECT.replace('version = "1.2"', ""), r"has no \[project\] version"),
        (PROJECT.replace("1.2", "1/../../x"), "has the version '1/../../x'"),
        (PROJECT.replace("Example.VO-plugin", "../x"), "has the name '../x'"),
        (PROJECT.replace("pilot_agent]", "console_scripts]"), "no entry point of the group pilot_agent"),
    ],
)
def test_what_is_no_plugin_is_refused_with_the_file_and_the_reason(tmp_path: Path, project: str, reason: str) -> None:
    with pytest.raises(PilotError, match=rf"pyproject.toml .*{reason}|{reason}"):
        read_distribution(write_project(tmp_path / "a", project))


def test_a_directory_of_licences_is_no_licence_text(tmp_path: Path) -> None:
    directory = write_project(tmp_path / "a")
    (directory / "LICENSES").mkdir()
    names = [name for name in read_distribution(directory).files if "/licenses/" in name]
    assert names == ["example_vo_plugin-1.2.dist-info/licenses/LICENSE"]


def test_a_directory_without_a_project_is_told_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(PilotError) as caught:
        read_distribution(tmp_path)
    assert "has no pyproject.toml" in caught.value.failure.message
    assert "plugin new" in caught.value.failure.hint
