"""What a rehearsal says of a plugin: for each thing that was run how it ended, and whose fault it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from pilot_agent.codec import to_json
from pilot_agent.collect import Declared
from pilot_agent.programs import SCRIPT
from pilot_agent.sdk.rehearsal import Outcome

Verdict = Literal["ok", "failed", "skipped"]
ENDED_WELL = ("ok", "ready", "shared")


@dataclass(frozen=True, slots=True)
class Line:
    """One declared thing: ``kind`` and ``name``, what became of it, and why."""

    kind: str
    name: str
    verdict: Verdict
    seconds: float
    detail: str = ""


def lines(outcome: Outcome, plugins: Collection[str], *, inside: bool, search_path: str) -> list[Line]:
    """Everything that the plugins declared to be run: inside an image, or on the node. What needs a program that is
    not in ``search_path`` is skipped, with the program's name."""
    found = []
    for declared in outcome.declared:
        record = declared.record
        runs = bool(getattr(record, "run", "") or getattr(record, "command", ()))
        if declared.plugin in plugins and runs and (getattr(record, "where", "host") == "image") == inside:
            found += [_line(outcome, declared, search_path)]
    return found


def _line(outcome: Outcome, declared: Declared, search_path: str) -> Line:
    record = declared.record
    kind = type(record).__name__.lower()
    entries = [e for e in outcome.timeline if e.plugin == declared.plugin and e.what == record.name]
    entry = entries[-1] if entries else None
    missing = _missing_program(record, search_path)
    if missing and (entry is None or entry.status not in ENDED_WELL):
        return Line(kind, record.name, "skipped", 0.0, f"{missing} is not on this machine")
    if entry is None:
        return Line(kind, record.name, "skipped", 0.0, _why_not(kind))
    if entry.status not in ENDED_WELL:
        detail = entry.detail or next((s.message for s in outcome.services if s.name == record.name), "")
        log = outcome.log(declared.plugin).strip()
        said = f"\n{log}" if log and kind != "service" else ""
        return Line(kind, record.name, "failed", entry.seconds, (detail or entry.status) + said)
    return Line(kind, record.name, "ok", entry.seconds, _told(outcome, declared))


def _missing_program(record: object, search_path: str) -> str:
    command = getattr(record, "command", ())
    if not command or command[0] == SCRIPT or getattr(record, "where", "host") == "image":
        return ""
    program = str(command[0])
    there = os.access(program, os.X_OK) if "/" in program else shutil.which(program, path=search_path) is not None
    return "" if there else program


def _why_not(kind: str) -> str:
    waits = {"periodic": "it runs while jobs may run", "benchmark": "`pilot-agent bench` runs it"}
    return waits.get(kind, "it was not run: an earlier one failed")


def _told(outcome: Outcome, declared: Declared) -> str:
    """What came of it, in brief."""
    record = declared.record
    checks = [check for check in outcome.checks if check.name == record.name]
    if type(record).__name__ == "Check" and checks:
        return f"{checks[-1].status}: {checks[-1].message}"
    return ", ".join(_facts(outcome, getattr(record, "gives", ())))


def _facts(outcome: Outcome, names: Collection[str]) -> Iterator[str]:
    for name in names:
        fact = outcome.facts.get(name)
        if fact is not None:
            yield f"{name}: {to_json(fact.value) if fact.known else f'{fact.status}, {fact.detail}'}"
