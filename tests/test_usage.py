"""A wrong command line is answered with what was probably meant."""

from __future__ import annotations

import json

import pytest

from pilot_agent import cli
from pilot_agent.config_keys import KEYS


@pytest.mark.parametrize(
    ("arguments", "usage", "said"),
    [
        (["chekc"], "usage: pilot-agent ", "there is no 'chekc'; choose from run, status, "),
        (["check", "--jsno"], "usage: pilot-agent check ", "did you mean --json?"),
        (["config", "refrence"], "usage: pilot-agent config ", "did you mean reference?"),
        (
            ["exec", "id"],
            "usage: pilot-agent exec ",
            "a command is needed, after --, for example: pilot-agent exec -- id",
        ),
        (["images", "insepct", "x"], "usage: pilot-agent images ", "did you mean images inspect?"),
    ],
)
def test_what_was_probably_meant_is_said_with_the_usage_of_that_command(
    arguments: list[str], usage: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith(usage)
    assert said in told


@pytest.mark.parametrize("wrong", [["--foo"], ["--json"], ["--profile", "all"]])
def test_a_monitoring_system_gets_its_line_also_for_a_wrong_command_line(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["check", "--nagios", *wrong])
    assert caught.value.code == 3
    printed = capsys.readouterr().out
    assert printed.startswith("PILOT UNKNOWN - usage: ")
    assert printed.count("\n") == 1


def test_the_help_says_how_it_ends_and_where_to_read_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    page = capsys.readouterr().out
    for words in ("Exit code: 0", "examples:", "To read on:", "pilot-agent config reference"):
        assert words in page


def test_every_answer_about_the_configuration_can_be_json(capsys: pytest.CaptureFixture[str]) -> None:
    for what in ("show", "schema", "reference"):
        assert cli.main(["config", what, "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
    assert [key["path"] for key in answer] == [key.path for key in KEYS]
