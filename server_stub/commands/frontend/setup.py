"""``init``, ``key`` and ``check``: from nothing to a frontend that can do its work."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time

from pilot_agent.config_collectors import collectors_problem
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.usage import Parser
from server_stub.commands.findings import show_findings
from server_stub.commands.frontend.common import PROGRAM, take_config
from server_stub.commands.tables import print_json
from server_stub.commands.tree import Command


def _init_arguments(parser: Parser) -> None:
    parser.add_argument("directory", metavar="DIRECTORY", help="where its files shall be, such as /etc/pilot-frontend")
    parser.add_argument("--name", default="example-frontend", help="the frontend's name (default: %(default)s)")
    parser.add_argument("--vo", default="example", help="whose jobs it serves (default: %(default)s)")
    parser.add_argument(
        "--collector", action="append", metavar="HOST", help="the user pool's; repeat for more (default: this host)"
    )
    parser.add_argument("--factory", default="example-factory", help="the factory's name (default: %(default)s)")
    parser.add_argument(
        "--url", default="https://factory.example.org:8443", help="where the factory is (default: %(default)s)"
    )
    parser.add_argument("--state", metavar="DIRECTORY", help="where it remembers (default: state, in DIRECTORY)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _init(parsed: argparse.Namespace) -> int:
    from server_stub.factory.reader import NAME
    from server_stub.frontend.configuration import URL
    from server_stub.frontend.starting import FILE, NewFrontend, make_frontend

    collectors = tuple(parsed.collector or (socket.gethostname(),))
    problems = [
        f"--{key} {value!r} is no name"
        for key in ("name", "vo", "factory")
        if not NAME.fullmatch(value := getattr(parsed, key))
    ]
    problems += [f"--collector {one!r} {said}" for one in collectors if (said := collectors_problem(one))]
    if not URL.fullmatch(parsed.url):
        problems.append(f"--url {parsed.url!r} is no address such as https://factory.example.org:8443")
    if problems:
        hint = "give other words; whoever gave the command must act"
        raise PilotError(Failure(FailureKind.USAGE, "usage", "; ".join(problems), hint))
    plan = NewFrontend(parsed.directory, parsed.name, parsed.vo, collectors, parsed.factory, parsed.url, parsed.state)
    written, public = make_frontend(plan)
    if parsed.json:
        print_json({"written": list(written), "public_key": public})
        return 0
    path = os.path.join(parsed.directory, FILE)
    sys.stdout.write("".join(f"wrote {one}\n" for one in written))
    sys.stdout.write(f"The operator of {parsed.factory} puts this under frontends:\n\n{_for_factories(plan, public)}\n")
    sys.stdout.write(f"Read {path}, then: {PROGRAM} check --config {path}\n")
    return 0


def _for_factories(plan: object, public: str) -> str:
    """What a factory's operator writes."""
    name, vo = getattr(plan, "name", ""), getattr(plan, "vo", "")
    key = "".join(f"      {line}\n" for line in public.splitlines())
    return f"  - name: {name}\n    vos: [{vo}]\n    public_key: |\n{key}"


def _key(parsed: argparse.Namespace) -> int:
    from server_stub.frontend.configuration import read_frontend
    from server_stub.frontend.identity import load_identity

    frontend = read_frontend(parsed.config)
    public = load_identity(frontend.name, frontend.key).public_key()
    if parsed.json:
        print_json({"name": frontend.name, "public_key": public})
    else:
        sys.stdout.write(public)
    return 0


def _check(parsed: argparse.Namespace) -> int:
    from server_stub.frontend.checking import check_frontend
    from server_stub.frontend.configuration import read_frontend

    findings = list(check_frontend(read_frontend(parsed.config), time.time()))
    return show_findings(findings, as_json=parsed.json)


COMMANDS = (
    Command(
        "init",
        "make a new frontend: its file with comments, a key, directories",
        _init,
        _init_arguments,
        ("init /etc/pilot-frontend --vo example \\\n      --collector cm.example.org",),
    ),
    Command("key", "print the public key, by which factories know the frontend", _key, take_config, ("key",)),
    Command(
        "check",
        "see whether the frontend can do its work: file, key, tokens, access points, slots, factories",
        _check,
        take_config,
        ("check --config frontend.yaml", "check --json"),
    ),
)
