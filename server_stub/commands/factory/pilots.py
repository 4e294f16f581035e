"""Pilots by hand: ``submit``, ``collect``, ``revoke``, and what became of them."""

from __future__ import annotations

import argparse
import sys
import time

from pilot_agent.usage import Parser
from server_stub.commands.factory import looking
from server_stub.commands.factory.common import known_pilot, opened, show_pilots, take_config, take_entry
from server_stub.commands.tables import print_json
from server_stub.commands.tree import Command, Group


def _submit_arguments(parser: Parser) -> None:
    take_entry(parser, required=True)
    parser.add_argument("--count", type=_number, default=1, metavar="N", help="how many pilots (default: %(default)s)")
    parser.add_argument("--vo", default="", metavar="NAME", help="for which VO")
    take_config(parser)


def _number(text: str) -> int:
    """How many pilots. Raises ``ArgumentTypeError``."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of pilots: 1 or more")
    return int(text)


def _submit(parsed: argparse.Namespace) -> int:
    from server_stub.condor.system import HTCondor
    from server_stub.submit import submit_pilots

    with opened(parsed) as (factory, store):
        entry = factory.entry(parsed.entry)
        made = submit_pilots(factory, entry, parsed.count, store, HTCondor(), vo=parsed.vo)
    show_pilots(made, as_json=parsed.json)
    return 0


def _collect_arguments(parser: Parser) -> None:
    parser.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="wait so long for all to end")
    take_config(parser)


def _collect(parsed: argparse.Namespace) -> int:
    from server_stub.collect import collect
    from server_stub.condor.system import HTCondor

    with opened(parsed) as (factory, store):
        until = time.monotonic() + parsed.wait
        changed = {pilot.id: pilot for pilot in collect(factory, store, HTCondor())}
        while store.pilots(unfinished=True) and time.monotonic() < until:
            time.sleep(min(factory.collect_seconds, max(0.0, until - time.monotonic())))
            changed |= {pilot.id: pilot for pilot in collect(factory, store, HTCondor())}
    show_pilots(list(changed.values()), as_json=parsed.json)
    return 0


def _list_arguments(parser: Parser) -> None:
    take_entry(parser)
    take_config(parser)


def _list(parsed: argparse.Namespace) -> int:
    with opened(parsed) as (factory, store):
        found = store.pilots(entry=parsed.entry)
        if parsed.entry and not found:  # one that is configured no more may still have pilots
            factory.entry(parsed.entry)
    show_pilots(found, as_json=parsed.json)
    return 0


def _revoke_arguments(parser: Parser) -> None:
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--pilot", metavar="ID", help="all of its tokens")
    chosen.add_argument("--jti", metavar="JTI", help="the token with this jti")
    take_config(parser)


def _revoke(parsed: argparse.Namespace) -> int:
    with opened(parsed) as (factory, store):
        if parsed.pilot is not None:
            known_pilot(factory, store, parsed.pilot, ", so nothing is revoked")
        number = store.revoke(jti=parsed.jti, pilot_id=parsed.pilot)
    if parsed.json:
        print_json({"revoked": number})
    else:
        sys.stdout.write(f"{number} revoked\n")
    return 0


COMMANDS = (
    Command("submit", "submit pilots to an entry", _submit, _submit_arguments, ("submit --entry el9-nodes --count 2",)),
    Command(
        "collect",
        "ask the batch system about the pilots and take their reports",
        _collect,
        _collect_arguments,
        ("collect --wait 600",),
    ),
    Group(
        "pilots",
        "what became of the pilots, and their removal",
        (
            Command("list", "list the pilots", _list, _list_arguments, ("pilots list --entry el9-nodes --json",)),
            *looking.COMMANDS,
        ),
        ("pilots", "pilots list --entry el9-nodes", "pilots show 4f2a90c1d7e3"),
        default="list",
    ),
    Command(
        "revoke", "let tokens of a pilot count no more", _revoke, _revoke_arguments, ("revoke --pilot 4f2a90c1d7e3",)
    ),
)
