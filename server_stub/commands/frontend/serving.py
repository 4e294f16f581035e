"""``run``: the frontend itself."""

from __future__ import annotations

import argparse

from pilot_agent.usage import Parser
from server_stub.commands.frontend.common import take_config
from server_stub.commands.tree import Command


def _arguments(parser: Parser) -> None:
    take_config(parser)
    parser.add_argument("--cycles", type=int, metavar="N", help="end after so many cycles (default: never)")
    parser.add_argument("--verbose", action="store_true", help="log each entry's decision too")


def _run(parsed: argparse.Namespace) -> int:
    from server_stub.frontend.configuration import read_frontend
    from server_stub.frontend.daemon import Daemon
    from server_stub.log import VARIABLE, configure_log

    if parsed.verbose:
        configure_log({VARIABLE: "debug"})
    frontend = read_frontend(parsed.config)
    Daemon(frontend, lambda: read_frontend(parsed.config), parsed.cycles).run()
    return 0


HELP = "look at the user pool and ask factories for pilots, until a signal ends it; SIGHUP reads the file anew"
COMMANDS = (Command("run", HELP, _run, _arguments, ("run --config frontend.yaml", "run --cycles 1 --verbose")),)
