"""``images inspect``: what is no image, and what is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pilot_agent import cli


def refused(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said of an image that there is none of."""
    assert cli.main(["images", "inspect", *arguments]) == 66
    return capfd.readouterr().err


def test_a_directory_that_holds_no_system_is_no_image(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("nothing to run")
    told = refused(capfd, str(tmp_path))
    assert "image.format" in told
    assert "neither /etc/os-release nor a program" in told


def test_a_directory_with_a_shell_is_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bin").mkdir()
    # Its first bytes say for which processor it is; nothing runs it.
    (tmp_path / "bin" / "sh").write_bytes(Path("/bin/sh").read_bytes()[:4096])
    assert cli.main(["images", "inspect", "--json", str(tmp_path)]) == 0
    assert json.loads(capfd.readouterr().out)["form"] == "directory"


@pytest.mark.parametrize("name", ["nosuchname", "/nosuch"])
def test_what_is_not_there_is_the_same_mistake_however_it_is_named(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert name in refused(capfd, name)


def test_a_misspelt_platform_is_told_with_the_one_that_was_meant(capfd: pytest.CaptureFixture[str]) -> None:
    told = refused(capfd, "debain12", "--set", 'images={"debian12": ["/images/debian12"]}')
    assert "image.not_in_dictionary" in told
    assert "did you mean debian12?" in told
