"""``status``, ``entries`` and ``pilots``: what the running frontend sees, asks for, and has."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.output.words import clean
from pilot_agent.spelling import unit_of
from pilot_agent.usage import Parser
from server_stub.commands.frontend.common import take_config
from server_stub.commands.tables import print_json, print_table
from server_stub.commands.tree import Command

COLUMNS = ("entry", "factory", "jobs", "need", "queued", "running", "busy", "idle", "asked", "at most", "why")
OFFERED = ("entry", "factory", "site", "cores", "memory", "GPUs", "hours", "failed", "start", "why not")
PILOTS = ("pilot", "factory", "entry", "state", "vo", "host", "outcome", "message")
LATE_CYCLES = 3
MOST_PILOTS = 500


def _status(parsed: argparse.Namespace) -> int:
    told = _told(parsed)
    now = time.time()
    if parsed.json:
        print_json({**told, "age_seconds": now - told["at"]})
        return 0
    sys.stdout.write("".join(f"{line}\n" for line in status_lines(told, now)) + "\n")
    print_table(COLUMNS, [_entry_row(row) for row in told["entries"]])
    return 0


def status_lines(told: Json, now: float) -> list[str]:
    """How it goes, above the table."""
    age = now - told["at"]
    late = age > LATE_CYCLES * told["cycle_seconds"]
    lines = [f"{told['frontend']}: cycle {told['cycle']} began {age:.0f} s ago" + (": IT DOES NOT RUN" if late else "")]
    counts = f"{told['idle_jobs']} idle jobs, {told['unserved_jobs']} of which no slot there is will take"
    unmatched = f", {told['unmatched_jobs']} of which no entry suits" if told["unmatched_jobs"] else ""
    lines.append(f"{counts}{unmatched}; {told['slots']} slots, {told['idle_slots']} of them idle")
    if told["frozen"]:
        cycles = unit_of(told["frozen_cycles"], "cycles")
        lines.append(f"FROZEN for {told['frozen_cycles']} {cycles}, nothing is taken back: {clean(told['frozen'])}")
    lines += [f"{clean(name)} starts no more jobs now: {clean(why)}" for name, why in told["closed"].items()]
    lines += [f"{clean(name)} has been silent for long and counts as without jobs" for name in told["given_up"]]
    for factory in told["factories"]:
        said = {"fresh": "answers", "kept": f"is away, its offers are {factory['age_seconds']:.0f} s old"}
        problem = f": {clean(factory['problem'])}" if factory["problem"] else ""
        lines.append(f"{factory['name']} {said.get(factory['offers'], 'is away')}{problem}")
        lines += [f"  left out: {clean(why)}" for why in factory["left_out"].values()]
    return lines


def _entry_row(row: Json) -> tuple[str, ...]:
    numbers = ("jobs", "demand", "queued", "running", "busy", "idle_slots", "asked_queued", "asked_pilots")
    remove = f"takes back: {row['remove'].lower()}" if row["remove"] != "NO" else ""
    why = "; ".join(filter(None, (row["why"], remove)))
    return (row["entry"], row["factory"], *(str(row[name]) for name in numbers), clean(why))


def _told(parsed: argparse.Namespace) -> Any:
    from server_stub.frontend.configuration import read_frontend
    from server_stub.frontend.kept import State

    frontend = read_frontend(parsed.config)
    told = State(frontend.state).told()
    if not isinstance(told, dict):
        message = f"the frontend {frontend.name} has told nothing yet in {frontend.state}"
        hint = "start it with `pilot-frontend run`, and look at its log; the VO's operator must act"
        raise PilotError(Failure(FailureKind.USAGE, "status.missing", message, hint))
    return told


def _entries(parsed: argparse.Namespace) -> int:
    from server_stub.frontend.configuration import read_frontend
    from server_stub.frontend.kept import State
    from server_stub.frontend.matching import refusal

    frontend = read_frontend(parsed.config)
    state, now = State(frontend.state), time.time()
    rows: list[dict[str, Json]] = []
    for plan in frontend.factories:
        last = state.offers(plan.name, frontend.settings.vo.name)
        for offer in last.offered.offers if last is not None else ():
            why = last.offered.closed.get(offer.name, "") if last is not None else ""
            entry, _, factory = offer.name.partition("@")
            rows.append({
                "entry": entry, "factory": factory, "site": offer.site, "cores": offer.cores,
                "memory_mib": offer.memory_mib, "gpus": offer.gpus, "walltime_seconds": offer.walltime_seconds,
                "failure_rate": offer.outcomes.failure_rate, "start_seconds": offer.start_seconds,
                "why_not": why or refusal(offer, frontend.settings.vo, now), "ad": offer.ad(),
            })  # fmt: skip
    if parsed.json:
        print_json(rows)
        return 0
    if rows:
        print_table(OFFERED, [_offer_row(row) for row in rows])
    else:
        sys.stdout.write("no factory has offered anything yet: pilot-frontend check, pilot-frontend run\n")
    return 0


def _offer_row(row: Json) -> tuple[str, ...]:
    return (
        row["entry"], row["factory"], clean(row["site"]), str(row["cores"]), f"{row['memory_mib']} MiB",
        str(row["gpus"]), f"{row['walltime_seconds'] / 3600:.0f}", f"{row['failure_rate']:.0%}",
        f"{row['start_seconds']:.0f} s", clean(row["why_not"]),
    )  # fmt: skip


def _pilots_arguments(parser: Parser) -> None:
    parser.add_argument("--entry", default="", metavar="NAME", help="only those of one entry")
    parser.add_argument("--state", default="", metavar="STATE", help="only those in this state, such as running")
    take_config(parser)


def _pilots(parsed: argparse.Namespace) -> int:
    from server_stub.frontend.client import FactoryClient
    from server_stub.frontend.configuration import read_frontend
    from server_stub.frontend.identity import load_identity

    frontend = read_frontend(parsed.config)
    identity = load_identity(frontend.name, frontend.key)
    entry, _, only = parsed.entry.partition("@")
    rows: list[dict[str, Json]] = []
    for plan in frontend.factories:
        if only and plan.name != only:
            continue
        client = FactoryClient(plan, identity, frontend.settings.vo.name)
        try:
            answer = client.pilots({"entry": entry, "state": parsed.state, "limit": str(MOST_PILOTS)})
        finally:
            client.close()
        pilots = answer.get("pilots") if isinstance(answer, dict) else answer
        rows += [{**row, "factory": plan.name} for row in pilots or () if isinstance(row, dict)]
    if parsed.json:
        print_json(rows)
        return 0
    keys = ("id", "factory", "entry", "state", "vo", "host", "outcome", "message")
    print_table(PILOTS, [tuple(clean(str(row.get(key) or "")) for key in keys) for row in rows])
    return 0


COMMANDS = (
    Command(
        "status",
        "show what the frontend sees, what it asks for at each entry, and why it asks for no more",
        _status,
        take_config,
        ("status", "status --json"),
    ),
    Command("entries", "show the entries that the factories offer, and why some are not asked", _entries, take_config),
    Command(
        "pilots",
        "show this frontend's pilots, as the factories tell them",
        _pilots,
        _pilots_arguments,
        ("pilots --state running",),
    ),
)
