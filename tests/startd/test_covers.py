"""What starters do not see, and what below it they see all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.startd.covers import Cover, plan_covers


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a start directory in it."""
    for name in ("home/start/pilot-x/condor", "home/start/pilot-y", "home/images", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "home" / "pilot.pyz").write_text("")
    return tmp_path / "home"


def test_the_outermost_directory_is_covered_and_the_needed_ones_show(home: Path) -> None:
    needed = [home / "start/pilot-x/condor", home / "start/pilot-x/condor/log", home / "pilot.pyz", home / "absent"]
    covers = plan_covers([str(home / "start"), str(home), ""], map(str, needed))
    assert covers == (Cover(str(home), (str(home / "start/pilot-x/condor"),), (str(home / "pilot.pyz"),)),)


@pytest.mark.parametrize("needed", ["", "..", "../.."])
def test_what_is_needed_as_a_whole_is_not_covered(home: Path, needed: str) -> None:
    inner = home / "start"
    covers = plan_covers([str(home), str(inner)], [str(home / needed)])
    assert covers == ()


def test_where_the_home_is_needed_the_start_directory_in_it_is_needed_too(home: Path) -> None:
    assert plan_covers([str(home), str(home / "start")], [str(home / "start")]) == (
        Cover(str(home), (str(home / "start"),)),
    )


@pytest.mark.parametrize("path", ["/", "/usr", "/etc", "/var", "/var/lib", "/proc", "relative", "/no/such/directory"])
def test_what_programs_cannot_do_without_is_not_covered(path: str) -> None:
    assert plan_covers([path], []) == ()


def test_links_to_what_is_needed_and_to_what_is_covered_are_followed(home: Path, tmp_path: Path) -> None:
    (home / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "homelink").symlink_to(home)
    covers = plan_covers([str(tmp_path / "homelink")], [str(tmp_path / "homelink/images"), str(home / "link")])
    assert covers == (Cover(str(home), (str(home / "images"), str(home / "link"))),)
