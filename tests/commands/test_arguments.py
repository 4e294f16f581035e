"""Command lines of `negotiate`, `images`, `cvmfs plan` and `exec`."""

from __future__ import annotations

import json

import pytest

from pilot_agent import cli
from pilot_agent.commands.arguments import split_command
from pilot_agent.containers.negotiation import SITE_WORDS, TABLE


@pytest.mark.parametrize(
    "command",
    [
        ["negotiate"],
        ["images"],
        ["images", "inspect"],
        ["images", "build"],
        ["cvmfs", "plan"],
        ["cvmfs", "config"],
        ["exec"],
    ],
    ids=" ".join,
)
def test_every_command_explains_itself_with_an_example_in_80_columns(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as caught:
        cli.main([*command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "example" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "own", "words"),
    [
        (["exec", "--quiet", "--", "ls", "-l"], ["exec", "--quiet"], ["ls", "-l"]),
        (["exec", "--", "sh", "--", "--json"], ["exec"], ["sh", "--", "--json"]),
        (["exec", "--", "images"], ["exec"], ["images"]),
        (["exec", "ls"], ["exec", "ls"], []),
        (["images", "inspect", "x"], ["images inspect", "x"], []),
        (["images", "--json"], ["images", "--json"], []),
        (["cvmfs", "plan", "--json"], ["cvmfs plan", "--json"], []),
        (["check", "--", "x"], ["check", "--", "x"], []),
    ],
)
def test_what_is_to_be_run_is_no_argument_of_the_pilots(arguments: list[str], own: list[str], words: list[str]) -> None:
    assert split_command(arguments) == (own, words)


@pytest.mark.parametrize(
    "arguments", [["exec", "ls"], ["images", "frobnicate"], ["images", "inspect"], ["images", "build", "x"]]
)
def test_a_wrong_command_line_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: pilot-agent" in capsys.readouterr().err


def test_exec_without_a_command_says_how_to_get_a_shell(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["exec", "--"]) == 2
    assert "pilot-agent exec -- /bin/bash" in capfd.readouterr().err


def test_the_table_of_negotiations_marks_the_cell_that_was_taken(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["negotiate", "--table", "--vo", "preferred", "--site", "required"]) == 0
    page = capsys.readouterr().out
    assert page.count("[") == 1
    assert "PREFERRED     NEVER    PREFERRED  PREFERRED  [REQUIRED]  REQUIRED\n" in page
    assert max(map(len, page.splitlines())) <= 100


def test_the_table_alone_needs_no_wishes_and_has_every_cell(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["negotiate", "--table", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"table": {row: dict(zip(SITE_WORDS, cells, strict=True)) for row, cells in TABLE.items()}}


@pytest.mark.parametrize("arguments", [[], ["--vo", "never"], ["--site", "never"], ["--table", "--vo", "never"]])
def test_one_wish_alone_is_a_wrong_command_line(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["negotiate", *arguments]) == 2
    assert "--table" in capfd.readouterr().err


def test_a_misspelt_wish_is_a_conflict_with_what_was_probably_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["negotiate", "--vo", "prefered", "--site", "optional", "--json"]) == 66
    answer = json.loads(capsys.readouterr().out)
    assert answer["decision"] == "FAIL"
    assert "did you mean PREFERRED?" in answer["reason"]
