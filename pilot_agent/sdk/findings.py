"""What a rehearsal says of a plugin: for each thing that was run how it ended, and whose fault it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from pilot_agent.codec import to_json
from pilot_agent.collect import Declared
from pilot_agent.hookspecs import Check, Service
from pilot_agent.model import CheckResult, CheckStatus
from pilot_agent.programs import SCRIPT
from pilot_agent.sdk.rehearsal import Outcome

Verdict = Literal["ok", "warned", "unfit", "failed", "skipped"]
"""``unfit`` is a check of the machine that says no: the machine's matter, and not the plugin's. An image is the VO's
own, as its plugin is: a check that says no inside one has ``failed``."""
ENDED_WELL = ("ok", "ready", "shared")
WAITING = "waiting"
"""A service that was not started, because of another one: that one is told."""


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


def last_stage_inside(outcome: Outcome, plugins: Collection[str]) -> str:
    """The stage up to which everything that the plugins declared for images has run; empty where that is nothing."""
    records = (one.record for one in outcome.declared if one.plugin in plugins)
    inside = [record for record in records if getattr(record, "where", "host") == "image"]
    return ("service" if any(isinstance(one, Service) for one in inside) else "setup_late") if inside else ""


def _line(outcome: Outcome, declared: Declared, search_path: str) -> Line:
    record = declared.record
    kind = type(record).__name__.lower()
    entries = [e for e in outcome.timeline if e.plugin == declared.plugin and e.what == record.name]
    entry = entries[-1] if entries else None
    missing = _missing_program(record, search_path)
    if missing and (entry is None or entry.status not in ENDED_WELL):
        return Line(kind, record.name, "skipped", 0.0, f"{missing} is not on this machine")
    if _lacks_image(outcome, record):
        how = f"--image with --set 'images.{record.platform}=[{{\"path\": PATH}}]' gives one"
        return Line(kind, record.name, "skipped", 0.0, f"there is no image of the platform {record.platform}: {how}")
    if entry is None:
        return Line(kind, record.name, "skipped", 0.0, _why_not(outcome, kind))
    if entry.status == WAITING:
        return Line(kind, record.name, "skipped", 0.0, "what it waits for was not started or did not become ready")
    if entry.status not in ENDED_WELL:
        detail = entry.detail or next((s.message for s in outcome.services if s.name == record.name), "")
        log = outcome.log(declared.plugin, record.name).strip()
        said = f"\n{log}" if log and log not in detail and kind != "service" else ""
        return Line(kind, record.name, "failed", entry.seconds, (detail or entry.status) + said)
    return Line(kind, record.name, _verdict(outcome, record), entry.seconds, _told(outcome, declared))


def _verdict(outcome: Outcome, record: object) -> Verdict:
    """What a part that ended well says."""
    check = _result(outcome, record)
    if check is None or check.status is CheckStatus.PASS:
        return "ok"
    if check.status is CheckStatus.FAIL:
        return "failed" if check.where == "image" else "unfit"
    return "warned" if check.status is CheckStatus.WARN else "skipped"


def _result(outcome: Outcome, record: object) -> CheckResult | None:
    own = [check for check in outcome.checks if isinstance(record, Check) and check.name == record.name]
    return own[-1] if own else None


def _lacks_image(outcome: Outcome, record: object) -> bool:
    """Whether it wants the image of a platform that nobody named; one that was named and is none has failed."""
    platform, decision = getattr(record, "platform", None), outcome.container
    if platform is None or decision is None:
        return False
    return platform not in {verdict.platform for verdict in decision.verdicts}


def _missing_program(record: object, search_path: str) -> str:
    command = getattr(record, "command", ())
    if not command or command[0] == SCRIPT or getattr(record, "where", "host") == "image":
        return ""
    program = str(command[0])
    there = os.access(program, os.X_OK) if "/" in program else shutil.which(program, path=search_path) is not None
    return "" if there else program


def _why_not(outcome: Outcome, kind: str) -> str:
    waits = {"periodic": "it runs while jobs may run", "benchmark": "`pilot-agent bench` runs it"}
    first = f": {outcome.failures[0].message}" if outcome.failures else ""
    return waits.get(kind, f"it was not run: an earlier one failed{first}")


def _told(outcome: Outcome, declared: Declared) -> str:
    """What came of it, in brief."""
    record = declared.record
    check = _result(outcome, record)
    if check is not None:
        return f"{check.status}: {check.message}"
    return ", ".join(_facts(outcome, getattr(record, "gives", ())))


def _facts(outcome: Outcome, names: Collection[str]) -> Iterator[str]:
    for name in names:
        fact = outcome.facts.get(name)
        if fact is not None:
            yield f"{name}: {to_json(fact.value) if fact.known else f'{fact.status}, {fact.detail}'}"
