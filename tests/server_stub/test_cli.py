"""The factory's commands answer people with tables, programs with JSON, and mistakes with a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from server_stub.cli import main
from server_stub.entries import Factory
from server_stub.factory.pilots import Pilot, PilotState
from server_stub.factory.store import Store


@pytest.fixture
def file(document: dict[str, Any], tmp_path: Path) -> str:
    path = tmp_path / "factory.yaml"
    path.write_text(json.dumps(document))
    return str(path)


def save_one(factory: Factory, store: Store) -> None:
    store.save(Pilot("p1", "site-a", "S", "pilot.pyz", "0" * 64, PilotState.LOST, 1.0, "/p1", message="gone"))


def test_pilots_are_listed_for_people(
    file: str, factory: Factory, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    save_one(factory, store)
    assert main(["pilots", "--config", file]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["pilot", "entry", "state"]
    assert row.split() == ["p1", "site-a", "lost", "gone"]


def test_pilots_are_listed_for_programs(
    file: str, factory: Factory, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    save_one(factory, store)
    assert main(["pilots", "--config", file, "--json", "--entry", "site-a"]) == 0
    assert [pilot["id"] for pilot in json.loads(capsys.readouterr().out)] == ["p1"]
    assert main(["pilots", "--config", file, "--json", "--entry", "site-b"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_the_factorys_state_is_private(file: str, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    assert main(["pilots", "--config", file]) == 0
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_an_unknown_entry_is_the_callers_mistake(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "--config", file, "--entry", "nowhere"]) == 2
    told = capsys.readouterr().err
    assert "no entry 'nowhere'" in told
    assert "must act" in told


@pytest.mark.parametrize(
    "words",
    [[], ["entries"], ["entries", "import"], ["entries", "close"], ["run"], ["pilots"], ["pilots", "list"], ["revoke"]],
)
def test_help_has_examples_and_fits_a_terminal(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    told = capsys.readouterr().out
    assert ended.value.code == 0
    assert "\nexamples:\n  pilot-factory " in told
    assert max(map(len, told.splitlines())) <= 80


def test_a_misspelt_command_is_answered_with_the_likely_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sumbit"])
    assert ended.value.code == 2
    assert "did you mean submit?" in capsys.readouterr().err


def test_a_wrong_file_is_a_configuration_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "factory.yaml"
    path.write_text("name: x\nname: y\n")
    assert main(["serve", "--config", str(path)]) == 66
    assert "'name' stands twice" in capsys.readouterr().err


def test_the_tokens_of_a_pilot_that_is_not_there_are_not_said_to_be_revoked(
    file: str, factory: Factory, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistyped name would leave the tokens of the one that was meant in use."""
    save_one(factory, store)
    assert main(["revoke", "--config", file, "--pilot", "p2"]) == 2
    assert "has no pilot 'p2', so nothing is revoked" in capsys.readouterr().err
    assert main(["revoke", "--config", file, "--pilot", "p1"]) == 0
