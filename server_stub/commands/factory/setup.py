"""``init`` and ``check``: from nothing to a factory that can do its work."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pilot_agent.config_collectors import collectors_problem
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.usage import Parser
from server_stub.commands.factory.common import PROGRAM, take_config
from server_stub.commands.findings import show_findings
from server_stub.commands.tables import print_json
from server_stub.commands.tree import Command

if TYPE_CHECKING:
    from server_stub.factory.starting import Plan

HERE = ("127.0.0.1", "localhost")


def _init_arguments(parser: Parser) -> None:
    parser.add_argument("directory", metavar="DIRECTORY", help="where its files shall be, such as /etc/pilot-factory")
    parser.add_argument("--name", default="example-factory", help="the factory's name (default: %(default)s)")
    parser.add_argument("--site", default="Example_Site", help="the site of the first entry (default: %(default)s)")
    parser.add_argument(
        "--collector", action="append", metavar="HOST", help="the user pool's; repeat for more (default: this host)"
    )
    parser.add_argument(
        "--url",
        default="http://127.0.0.1:8080",
        help="how worker nodes reach the factory (default: %(default)s)",
    )
    parser.add_argument(
        "--from",
        dest="sources",
        action="append",
        default=[],
        metavar="DIRECTORY",
        help="where pilot.pyz, pilot.sh and launcher.sh are; repeat for more",
    )
    parser.add_argument("--state", metavar="DIRECTORY", help="where its store shall be (default: state, in DIRECTORY)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _init(parsed: argparse.Namespace) -> int:
    from server_stub.factory.starting import FILE, make_factory

    made = make_factory(_plan(parsed))
    if parsed.json:
        print_json({"written": list(made.written), "left": list(made.left)})
        return 0
    path = os.path.join(parsed.directory, FILE)
    lines = [f"wrote {one}" for one in made.written] + [f"left to do: {one}" for one in made.left]
    lines.append(f"Read {path}, then: {PROGRAM} check --config {path}")
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _plan(parsed: argparse.Namespace) -> Plan:
    from server_stub.entries import URL
    from server_stub.factory.reader import NAME
    from server_stub.factory.starting import Plan

    collectors = tuple(parsed.collector or (socket.gethostname(),))
    problems = [
        f"--{key} {value!r} is no name" for key in ("name", "site") if not NAME.fullmatch(value := getattr(parsed, key))
    ]
    problems += [f"--collector {one!r} {said}" for one in collectors if (said := collectors_problem(one))]
    if not URL.fullmatch(parsed.url):
        problems.append(f"--url {parsed.url!r} is no address such as http://factory.example.org:8080")
    if problems:
        hint = "give other words; whoever gave the command must act"
        raise PilotError(Failure(FailureKind.USAGE, "usage", "; ".join(problems), hint))
    place = urlsplit(parsed.url)
    address = "127.0.0.1" if place.hostname in HERE else "0.0.0.0"  # noqa: S104 - nodes come from elsewhere
    port = place.port or (443 if place.scheme == "https" else 80)
    return Plan(
        parsed.directory,
        parsed.name,
        parsed.url,
        address,
        port,
        collectors,
        parsed.site,
        tuple(parsed.sources),
        parsed.state,
    )


def _check(parsed: argparse.Namespace) -> int:
    from server_stub.condor.system import HTCondor
    from server_stub.entries import read_factory
    from server_stub.factory.checking import check_factory

    findings = list(check_factory(read_factory(parsed.config), HTCondor()))
    return show_findings(findings, as_json=parsed.json)


COMMANDS = (
    Command(
        "init",
        "make a new factory: its file with comments, an entry, directories and keys",
        _init,
        _init_arguments,
        ("init /etc/pilot-factory --name example \\\n      --collector cm.example.org --state /var/lib/pilot-factory",),
    ),
    Command(
        "check",
        "see whether the factory can do its work: file, payloads, store, certificate, access point, entries",
        _check,
        take_config,
        ("check --config factory.yaml", "check --json"),
    ),
)
