"""The parser of a command line that was typed by a person: a wrong one is answered with the usage of the command that
was meant, and with the word that was probably meant."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from pilot_agent.model import FailureKind
from pilot_agent.spelling import nearest


class WrongUse(SystemExit):
    """The end (exit code 2) after a wrong command line was told on standard error; ``message`` says what is wrong."""

    def __init__(self, message: str) -> None:
        super().__init__(FailureKind.USAGE.exit_code)
        self.message = message


class Parser(argparse.ArgumentParser):
    """``ArgumentParser`` with suggestions; its subcommands get the same."""

    def error(self, message: str) -> NoReturn:
        """Tell what is wrong. Raises ``WrongUse``."""
        self.print_usage(sys.stderr)
        self._print_message(f"{self.prog}: error: {message}\n", sys.stderr)
        raise WrongUse(message)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(
                action, f"there is no {value!r}; choose from {', '.join(known)}{nearest(str(value), known)}"
            )


def command_parser(top: argparse.ArgumentParser, command: str) -> argparse.ArgumentParser:
    """The parser of one command."""
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            found: argparse.ArgumentParser = action.choices[command]
            return found
    return top


def unrecognised(parser: argparse.ArgumentParser, command: str, extra: Sequence[str]) -> str:
    """What to say of arguments that a command does not take."""
    told = f"unrecognized arguments: {' '.join(extra)}"
    options = [word.partition("=")[0] for word in extra if word.startswith("-")]
    if options:
        known = [name.removeprefix("--") for name in parser._option_string_actions if name.startswith("--")]
        return told + nearest(options[0].lstrip("-"), known).replace("did you mean ", "did you mean --")
    if command == "exec":
        return f"a command is needed, after --, for example: pilot-agent exec -- {extra[0]}"
    if command == "images":
        return told + nearest(extra[0], ("inspect", "build")).replace("did you mean ", "did you mean images ")
    return told
