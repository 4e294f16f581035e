"""Commands are data: a default verb, older names, a missing library and a reader that stops are all answered."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pytest

from pilot_agent.process import run
from pilot_agent.usage import Parser
from server_stub.commands.tree import Command, Group, Program, build_parser, run_program

ROOT = Path(__file__).resolve().parents[3]


def program(*commands: Command | Group) -> Program:
    return Program("pilot-example", "An example.", commands, "docs/none.md")


def telling(said: list[str], name: str) -> Command:
    def act(parsed: argparse.Namespace) -> int:
        said.append(name)
        return 0

    def take(parser: Parser) -> None:
        parser.add_argument("--entry")

    return Command(name, f"do {name}", act, take)


@pytest.mark.parametrize(
    ("words", "which"),
    [
        (["things"], "list"),
        (["things", "--entry", "show"], "list"),
        (["things", "show"], "show"),
        (["things", "list", "--entry", "x"], "list"),
    ],
)
def test_a_group_without_a_verb_means_its_default(words: list[str], which: str) -> None:
    said: list[str] = []
    things = Group("things", "things", (telling(said, "list"), telling(said, "show")), default="list")
    assert run_program(program(things), words) == 0
    assert said == [which]


def test_a_group_without_a_default_needs_a_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_program(program(Group("things", "things", (telling([], "list"),))), ["things"])
    assert ended.value.code == 2
    assert "VERB" in capsys.readouterr().err


def test_an_older_name_works_and_is_not_listed() -> None:
    said: list[str] = []
    older = Command("serve", "older", telling(said, "serve").run, hidden=True)
    whole = program(telling(said, "run"), older)
    assert run_program(whole, ["serve"]) == 0
    assert said == ["serve"]
    assert "older" not in build_parser(whole).format_help()


def test_a_missing_library_is_named_with_how_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    def act(parsed: argparse.Namespace) -> int:
        import no_such_library_of_anybody  # type: ignore[import-not-found]

        return int(no_such_library_of_anybody.__name__ == "")

    assert run_program(program(Command("run", "run", act)), ["run"]) == 66
    assert "'no_such_library_of_anybody' is missing" in capsys.readouterr().err


def test_a_module_of_ours_that_is_missing_is_no_missing_library() -> None:
    def act(parsed: argparse.Namespace) -> int:
        raise ModuleNotFoundError("no", name="server_stub.nothing")

    with pytest.raises(ModuleNotFoundError):
        run_program(program(Command("run", "run", act)), ["run"])


@pytest.mark.parametrize("words", [["-m", "server_stub"], ["-m", "server_stub", "factory"]])
def test_both_programs_run_as_modules_too(words: list[str]) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = run([sys.executable, *words, "--help"], deadline_seconds=60, environment=environment)
    assert done.ok, done.explain()
    assert done.text.startswith("usage: pilot-factory ")


def test_help_loads_none_of_the_large_libraries() -> None:
    source = "import sys; from server_stub.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
    source += "print('loaded', *sorted({n.partition('.')[0] for n in sys.modules}))"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    for name in ("factory", "frontend"):
        argv = [sys.executable, "-c", source, name, "--help"]
        done = run(argv, deadline_seconds=60, environment=environment)
        loaded = set(done.text.splitlines()[-1].split())
        assert "server_stub" in loaded
        assert not loaded & {"sqlalchemy", "fastapi", "uvicorn", "numpy", "htcondor2", "classad2", "cryptography"}
