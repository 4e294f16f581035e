"""A delivered token replaces the pilot's own one only when it is good, in one step, and is never repeated."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from pilot_agent.startd.token_reload import main
from tests.startd.test_token import make


def good(seconds: float, name: str = "pilot") -> str:
    return make({"iss": "pool.example", "sub": f"{name}@pool.example", "exp": int(time.time() + seconds)})


@pytest.fixture
def places(open_path: Path) -> tuple[Path, Path]:
    """The delivered file and the installed one."""
    (open_path / "private" / "tokens").mkdir(parents=True, mode=0o700)
    return open_path / "pool.token", open_path / "private" / "tokens" / "pool"


def reload(places: tuple[Path, Path], capfd: pytest.CaptureFixture[str]) -> tuple[int, dict[str, object]]:
    code = main([str(path) for path in places])
    return code, json.loads(capfd.readouterr().out)


def test_a_good_token_is_installed_for_the_account_alone(
    places: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    source, installed = places
    installed.write_text(good(10) + "\n")
    token = good(1000)
    source.write_text(token)
    source.chmod(0o644)
    code, answer = reload(places, capfd)
    assert code == 0
    assert answer["changed"] is True
    assert answer["subject"] == "pilot@pool.example"
    assert installed.read_text() == token + "\n"
    assert installed.stat().st_mode & 0o777 == 0o600
    assert os.listdir(installed.parent) == ["pool"]
    assert os.listdir(installed.parent.parent) == ["tokens"]


def test_the_same_token_again_changes_nothing(places: tuple[Path, Path], capfd: pytest.CaptureFixture[str]) -> None:
    source, installed = places
    source.write_text(good(1000))
    assert reload(places, capfd)[1]["changed"] is True
    before = installed.stat().st_ino
    assert reload(places, capfd)[1]["changed"] is False
    assert installed.stat().st_ino == before


@pytest.mark.parametrize(
    ("content", "mode", "code"),
    [
        (good(-10), 0o600, "token.expired"),
        ("secretword", 0o600, "token.invalid"),
        (good(1000), 0o666, "token.exposed"),
        (None, 0, "token.missing"),
    ],
)
def test_a_bad_one_leaves_the_old_one(
    places: tuple[Path, Path], capfd: pytest.CaptureFixture[str], content: str | None, mode: int, code: str
) -> None:
    source, installed = places
    installed.write_text("old\n")
    if content is not None:
        source.write_text(content)
        source.chmod(mode)
    ended, answer = reload(places, capfd)
    assert ended == 67
    assert answer["code"] == code
    assert content is None or content not in json.dumps(answer)
    assert installed.read_text() == "old\n"


def test_a_directory_that_cannot_be_written_is_told(
    places: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    source, installed = places
    source.write_text(good(1000))
    installed.mkdir()
    code, answer = reload(places, capfd)
    assert code == 64
    assert answer["code"] == "token.write"


def test_a_token_of_another_pool_is_refused(places: tuple[Path, Path], capfd: pytest.CaptureFixture[str]) -> None:
    source, installed = places
    installed.write_text(good(-10))
    old = installed.read_text()
    source.write_text(make({"iss": "elsewhere", "sub": "pilot@elsewhere", "exp": int(time.time()) + 1000}))
    code, answer = reload(places, capfd)
    assert (code, answer["code"]) == (67, "token.other_pool")
    assert installed.read_text() == old
