"""What starters do not see, and what below it they see all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.startd.covers import Cover, plan_covers, token_directories


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


def test_a_directory_with_nothing_but_the_token_is_the_tokens_own(home: Path) -> None:
    own = home / "secret"
    own.mkdir()
    token = own / "pool.token"
    for name in ("pool.token", "pool.token.new", ".pool.token.x1"):
        (own / name).write_text("")
    assert token_directories(str(token), [str(home / "start")]) == (str(own),)
    assert token_directories(str(token), [str(own)]) == ()
    (own / "factory.json").write_text("")
    assert token_directories(str(token), []) == ()
    assert token_directories(str(home / "absent" / "pool.token"), []) == ()


def test_a_token_that_is_replaced_by_another_link_is_covered_with_what_it_leads_to(home: Path) -> None:
    mounted, elsewhere = home / "secret", home / "delivered"
    (mounted / "..2026").mkdir(parents=True)
    elsewhere.mkdir()
    (mounted / "..2026" / "pool.token").write_text("")
    (mounted / "..data").symlink_to("..2026")
    (mounted / "pool.token").symlink_to("..data/pool.token")
    assert token_directories(str(mounted / "pool.token"), []) == (str(mounted),)
    (elsewhere / "pool.token").symlink_to(mounted / "pool.token")
    assert token_directories(str(elsewhere / "pool.token"), []) == (str(elsewhere), str(mounted / "..2026"))
