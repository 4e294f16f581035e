"""``site``: what a site needs before pilots are submitted to it over ssh."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import TYPE_CHECKING

from pilot_agent.usage import Parser
from server_stub.commands.tables import print_json
from server_stub.commands.tree import Command, Group

if TYPE_CHECKING:
    from server_stub.login_node import Found, LoginNode


def _arguments(parser: Parser) -> None:
    parser.add_argument("contact", metavar="USER@HOST[:PORT]", help="the account on the site's login node")
    parser.add_argument("--key", metavar="FILE", help="the private key (default: what ssh chooses)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _install(parsed: argparse.Namespace) -> int:
    from server_stub.login_node import LoginNode, install

    node = LoginNode.parse(parsed.contact, parsed.key)
    _show(node, install(node), as_json=parsed.json)
    return 0


def _check(parsed: argparse.Namespace) -> int:
    from server_stub.login_node import LoginNode, prove

    node = LoginNode.parse(parsed.contact, parsed.key)
    _show(node, prove(node), as_json=parsed.json)
    return 0


def _show(node: LoginNode, found: Found, *, as_json: bool) -> None:
    if as_json:
        print_json({"contact": node.contact, **dataclasses.asdict(found)})
        return
    lines = [f"{system}: {directory}" for system, directory in found.systems.items()]
    lines += [f"python: {found.python or 'none, by which the blahp asks Slurm, PBS and LSF for jobs'}"]
    lines += [f"type: batch {system}, contact: {node.contact}" for system in found.systems]
    sys.stdout.write("".join(f"{line}\n" for line in lines))


COMMANDS = (
    Group(
        "site",
        "a site's login node that is reached over ssh",
        (
            Command(
                "install",
                "copy what HTCondor needs there, and prove that it starts",
                _install,
                _arguments,
                ("site install pilots@login.example.org",),
            ),
            Command(
                "check",
                "tell whether it is reached and has what HTCondor needs",
                _check,
                _arguments,
                ("site check pilots@login.example.org --json",),
            ),
        ),
        ("site install pilots@login.example.org",),
    ),
)
