"""Commands and groups of commands as data, and the one way to run them: parse, log, act, tell a failure to a person.

The libraries that a command works with are imported when it runs, so that the others start at once.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.usage import Parser

FORMATTER = argparse.RawDescriptionHelpFormatter
CHOSEN = "chosen_command"
OWN = ("pilot_agent", "server_stub")


@dataclass(frozen=True, slots=True)
class Command:
    """One command: what it is called, says of itself, takes, and does. ``run`` returns the exit code or raises
    ``PilotError``; ``examples`` are whole command lines without the program's name, shown by ``--help``. Those that are
    ``hidden`` work and are not listed: older names."""

    name: str
    help: str
    run: Callable[[argparse.Namespace], int]
    arguments: Callable[[Parser], None] = lambda parser: None
    examples: tuple[str, ...] = ()
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Commands below one word. ``default`` is the one that is meant where none is named."""

    name: str
    help: str
    commands: tuple[Command, ...]
    examples: tuple[str, ...] = ()
    default: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """A whole command line. ``page`` is where to read on."""

    name: str
    description: str
    commands: tuple[Command | Group, ...]
    page: str
    examples: tuple[str, ...] = ()


def run_program(program: Program, argv: Sequence[str]) -> int:
    """Run one command; its exit code, by the kind of the failure (as the pilot's)."""
    parsed = build_parser(program).parse_args(_with_default(program, argv))
    command: Command = getattr(parsed, CHOSEN)
    try:
        _configure_log()
        return command.run(parsed)
    except PilotError as error:
        tell_failure(program.name, error.failure)
        return error.failure.exit_code
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in OWN:
            raise
        tell_failure(program.name, _without_library(error))
        return FailureKind.CONFIG.exit_code
    except BrokenPipeError:  # who read the output has read enough
        sys.stderr.close()
        return 141
    except KeyboardInterrupt:
        return 130


def tell_failure(program: str, failure: Failure) -> None:
    """What was wrong, and below it what to change, on standard error."""
    hint = f"\n  {failure.hint}" if failure.hint else ""
    sys.stderr.write(f"{program}: {failure.code}: {failure.message}{hint}\n")


def build_parser(program: Program) -> Parser:
    """The parser of the whole command line."""
    parser = Parser(
        prog=program.name,
        description=program.description,
        epilog=_epilog(program, program.examples, f"To read on: {program.page} in the source."),
        formatter_class=FORMATTER,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for one in program.commands:
        if isinstance(one, Command):
            _add(commands, program, one)
        else:
            group = commands.add_parser(
                one.name, help=one.help, epilog=_epilog(program, one.examples), formatter_class=FORMATTER
            )
            below = group.add_subparsers(required=True, metavar="VERB")
            for command in one.commands:
                _add(below, program, command)
    return parser


def _add(commands: argparse._SubParsersAction[Parser], program: Program, command: Command) -> None:
    epilog = _epilog(program, command.examples)
    if command.hidden:
        parser = commands.add_parser(command.name, epilog=epilog, formatter_class=FORMATTER)
    else:
        parser = commands.add_parser(command.name, help=command.help, epilog=epilog, formatter_class=FORMATTER)
    parser.description = textwrap.fill(command.help[:1].upper() + command.help[1:] + ".", 78)
    command.arguments(parser)
    parser.set_defaults(**{CHOSEN: command})


def _epilog(program: Program, examples: Sequence[str], more: str = "") -> str | None:
    lines = "".join(f"  {program.name} {example}\n" for example in examples)
    parts = [f"examples:\n{lines}" if lines else "", more]
    return "\n".join(filter(None, parts)) or None


def _with_default(program: Program, argv: Sequence[str]) -> list[str]:
    """The words with the group's default command where no verb follows the group's name."""
    words = list(argv)
    groups = {one.name: one for one in program.commands if isinstance(one, Group) and one.default}
    verb = "".join(words[1:2])
    if words and words[0] in groups and verb not in ("-h", "--help") and (not verb or verb.startswith("-")):
        words.insert(1, groups[words[0]].default)
    return words


def _without_library(error: ModuleNotFoundError) -> Failure:
    message = f"the Python package {error.name!r} is missing"
    hint = "install pilot-agent with its server extra: pip install 'pilot-agent[server]'; who installs it must act"
    return Failure(FailureKind.CONFIG, "library.missing", message, hint)


def _configure_log() -> None:
    from server_stub.log import configure_log

    configure_log()
