"""One pilot: ``pilots show | report | events``, and ``pilots remove``."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
from typing import TYPE_CHECKING

from pilot_agent.codec import to_json
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.output.words import clean
from pilot_agent.usage import Parser
from server_stub.commands.factory.common import known_pilot, opened, take_config
from server_stub.commands.tables import print_json
from server_stub.commands.tree import Command

if TYPE_CHECKING:
    from server_stub.factory.pilots import Pilot

TIMES = frozenset(("submitted", "started", "ended", "missing_since", "seen"))


def _one(parser: Parser) -> None:
    parser.add_argument("pilot", metavar="ID", help="which pilot")
    take_config(parser)


def _show(parsed: argparse.Namespace) -> int:
    with opened(parsed) as (factory, store):
        pilot = known_pilot(factory, store, parsed.pilot)
        changes = store.changes(pilot.id)
        words = store.last_words(pilot.id)
    if parsed.json:
        steps = [{"at": at, "state": state.value} for at, state in changes]
        print_json({"pilot": to_json(pilot), "changes": steps, "last_words": words})
        return 0
    lines = [f"{name:<19}{value}" for name, value in _told(pilot)]
    lines += [f"{'was ' + state.value:<19}{_moment(at)}" for at, state in changes]
    lines += ["", *map(clean, words.splitlines())] if words else []
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _told(pilot: Pilot) -> list[tuple[str, str]]:
    """What there is to say of a pilot, by the names of its fields."""
    found = []
    for name in pilot.__dataclass_fields__:
        value = getattr(pilot, name)
        if value not in (None, ""):
            found.append((name, _moment(value) if name in TIMES else str(value)))
    return found


def _moment(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _report(parsed: argparse.Namespace) -> int:
    with opened(parsed) as (factory, store):
        pilot = known_pilot(factory, store, parsed.pilot)
        report = store.report(pilot.id)
    if report is None:
        message = f"the pilot {pilot.id} gave no report: it is {pilot.state.value}" + (
            f", {pilot.message}" if pilot.message else ""
        )
        hint = f"see what it wrote, in {pilot.directory}; the factory's operator must act"
        raise PilotError(Failure(FailureKind.USAGE, "report.missing", message, hint))
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return 0


def _events(parsed: argparse.Namespace) -> int:
    with opened(parsed) as (factory, store):
        pilot = known_pilot(factory, store, parsed.pilot)
        for piece in store.events(pilot.id):
            sys.stdout.write("".join(f"{clean(line)}\n" for line in piece.decode("utf-8", "replace").splitlines()))
    return 0


def _remove_arguments(parser: Parser) -> None:
    parser.add_argument("pilots", metavar="ID", nargs="+", help="which pilots")
    parser.add_argument(
        "--reason", default="removed by the factory's operator", metavar="TEXT", help="kept with the job"
    )
    take_config(parser)


def _remove(parsed: argparse.Namespace) -> int:
    from server_stub.condor.system import HTCondor
    from server_stub.factory.texts import shown

    with opened(parsed) as (factory, store):
        chosen = [known_pilot(factory, store, name, ", so nothing is removed") for name in parsed.pilots]
    jobs = [pilot.job for pilot in chosen if pilot.job is not None and not pilot.state.final]
    number = HTCondor().remove(jobs, shown(parsed.reason)) if jobs else 0
    if parsed.json:
        print_json({"asked": len(chosen), "removed": number})
    else:
        rest = len(chosen) - number
        sys.stdout.write(f"{number} removed" + (f", {rest} had ended" if rest else "") + "\n")
    return 0


COMMANDS = (
    Command("show", "show one pilot and its changes of state", _show, _one, ("pilots show 4f2a90c1d7e3",)),
    Command("report", "print a pilot's report, JSON", _report, _one, ("pilots report 4f2a90c1d7e3 | jq .outcome",)),
    Command(
        "events", "print the events that a pilot sent, a line each", _events, _one, ("pilots events 4f2a90c1d7e3",)
    ),
    Command(
        "remove",
        "have pilots removed from the batch system, at the site too",
        _remove,
        _remove_arguments,
        ("pilots remove 4f2a90c1d7e3 --reason 'the node is broken'",),
    ),
)
