"""The command line: ``pilot-agent run | status | drain | stop | check | probe | explain | plugins | plugin | bench |
negotiate | images | cvmfs plan | cvmfs config | exec | report | config | version``."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Sequence

from pilot_agent.commands.arguments import split_command
from pilot_agent.commands.parser import parser
from pilot_agent.dispatch import COMMANDS, given
from pilot_agent.interruption import bug
from pilot_agent.model import PilotError
from pilot_agent.printing import UNWRITTEN, print_text, warn
from pilot_agent.usage import WrongUse, command_parser, unrecognised

NAGIOS_UNKNOWN = 3


def main(argv: Sequence[str]) -> int:
    """Run one command; its exit code (design section 6)."""
    arguments = list(argv)
    if arguments[:1] == ["_pipeline"]:
        return _pipeline(arguments[1:])
    parsed = _parse(arguments)
    try:
        return COMMANDS[parsed.command](parsed)
    except PilotError as error:
        return _fail(error, parsed)
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - the last catch: a person gets one line and not a traceback
        return _fail(PilotError(bug(error)), parsed)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The parsed command line; a monitoring system takes 2 for a critical node, so with ``--nagios`` a wrong one
    exits 3 (unknown)."""
    top = parser()
    own, words = split_command(list(arguments))
    try:
        parsed, extra = top.parse_known_args(own)
        parsed.words = words
        if extra:
            used = command_parser(top, parsed.command)
            eaten = getattr(parsed, "require", None) and not extra[0].startswith("-")
            why = "; put quotes around a requirement: --require 'cpu.usable >= 8'" if eaten else ""
            used.error(unrecognised(used, parsed.command, extra) + why)
    except WrongUse as wrong:
        if "--nagios" in arguments:
            _say_unknown("usage", wrong.message)
            raise SystemExit(NAGIOS_UNKNOWN) from wrong
        raise
    return parsed


def _fail(error: PilotError, parsed: argparse.Namespace) -> int:
    failure = error.failure
    nagios = getattr(parsed, "nagios", False)
    if nagios and failure.code != UNWRITTEN:
        _say_unknown(failure.code, failure.message)
        return NAGIOS_UNKNOWN
    hint = f"\n  {failure.hint}" if failure.hint else ""
    warn(_for_a_terminal(f"pilot-agent: {failure.code}: {failure.message}{hint}") + "\n")
    return NAGIOS_UNKNOWN if nagios else failure.exit_code


def _for_a_terminal(text: str) -> str:
    """Its lines folded where a person reads them; as they are for programs, and in files."""
    with contextlib.suppress(OSError):
        if os.isatty(2):
            from pilot_agent.render import paragraph

            return "\n".join(
                paragraph(line.strip(), indent=" " * (len(line) - len(line.lstrip()))) for line in text.splitlines()
            )
    return text


def _say_unknown(code: str, message: str) -> None:
    """The one line that a monitoring system reads when nothing can be told of the node."""
    try:
        print_text(f"PILOT UNKNOWN - {code}: {' '.join(message.split())}\n".replace("|", "/"))
    except PilotError as error:
        warn(f"pilot-agent: {error.failure.message}\n")


def _pipeline(arguments: list[str]) -> int:
    """``run`` as the guardian starts it."""
    from pilot_agent import pipeline

    parsed = _parse(["run", *arguments])
    kept = tuple(text for stage in parsed.cut_after for text in ("--cut-after", stage))
    options = pipeline.Options(given(parsed), parsed.resume, tuple(parsed.cut_after), kept)
    return pipeline.run(options, os.environ)
