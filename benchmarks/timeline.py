"""Where the time from exec to condor_master goes: one real pilot's own account, and what its imports cost."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from benchmarks import life
from benchmarks.node import HOME, OUTPUT, PYZ, MeasurementError, Place
from tests.testbed.trees import PILOT

IMPORT_LINE = re.compile(r"^import time:\s+(\d+) \|\s+(\d+) \| ( *)(\S+)$")
MOST_IMPORTS = 15
# What each kind of process of a start imports before it does anything.
PROCESSES = {
    "guardian": ("pilot_agent.lifecycle.guardian",),
    "pipeline": ("pilot_agent.cli", "pilot_agent.pipeline", "pilot_agent.handoff"),
    "child": ("pilot_agent.child",),
    "keeper": ("pilot_agent.lifecycle.keeper",),
}


@dataclass(frozen=True, slots=True)
class Import:
    """What one module cost, in microseconds: alone, and with what it imported itself."""

    module: str
    own: int
    cumulative: int
    depth: int


def profile(place: Place) -> str:
    """Run one pilot to its slot ad, end it, and return the account as text."""
    with life.pilot(place) as warm:
        place.slot_ad(warm.master.wall)
        time.sleep(life.SETTLE_SECONDS)
        life.stop(place, warm)
    with life.pilot(place) as started:
        place.slot_ad(started.master.wall)
        time.sleep(life.SETTLE_SECONDS)
        stopped = life.stop(place, started)
    report = json.loads(_output(place, "report.json"))
    events = [json.loads(line) for line in _output(place, "events.jsonl").splitlines()]
    head = (
        f"exec of pilot.pyz to exec of condor_master: {started.seconds:.3f} s, "
        f"{started.node_processes} processes; stop {stopped:.3f} s"
    )
    parts = [head, stages(report, events, started), tasks(report)]
    parts += [_imports(place, name, modules) for name, modules in PROCESSES.items()]
    return "\n\n".join(parts)


def stages(report: dict[str, Any], events: Sequence[dict[str, Any]], started: life.Started) -> str:
    """One line for each stage, in seconds from exec, with what it spent outside its tasks."""
    zero = next((event["seconds"] for event in events if event["event"] == "pilot.started"), 0.0)
    lines = [f"{'start':>8} {'seconds':>8} {'no task':>8}  stage (seconds after the pilot's own time zero)"]
    lines.append(f"{zero:8.3f} {'':8} {'':8}  first event")
    for entry in report["timeline"]:
        if entry["plugin"] == "agent":
            inside = [task for task in _tasks(report) if _within(task, entry)]
            idle = entry["seconds"] - _covered(inside)
            lines.append(f"{entry['start']:8.3f} {entry['seconds']:8.3f} {idle:8.3f}  {entry['stage']} {entry['what']}")
    for event in events:
        if event["event"] in ("condor.started", "pool.joined", "pilot.ending"):
            lines.append(f"{event['seconds']:8.3f} {'':8} {'':8}  {event['event']}")
    zero_wall = _epoch(report)
    if zero_wall is not None:
        lines.append(f"time zero is {zero_wall - started.began.wall:.3f} s after exec of pilot.pyz")
    return "\n".join(lines)


def tasks(report: dict[str, Any]) -> str:
    """One line for each task of a plugin, the longest first."""
    lines = [f"{'start':>8} {'seconds':>8}  task"]
    for entry in sorted(_tasks(report), key=lambda task: -task["seconds"]):
        what = f"{entry['stage']}: {entry['plugin']} {entry['what']} ({entry['status']})"
        lines.append(f"{entry['start']:8.3f} {entry['seconds']:8.3f}  {what}")
    return "\n".join(lines)


def _tasks(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for entry in report["timeline"] if entry["plugin"] != "agent" and entry["stage"] != "run"]


def _within(task: dict[str, Any], stage: dict[str, Any]) -> bool:
    middle = task["start"] + task["seconds"] / 2
    return bool(stage["start"] <= middle <= stage["start"] + stage["seconds"])


def _covered(entries: Sequence[dict[str, Any]]) -> float:
    """The length of the union of the entries' times."""
    covered, end = 0.0, float("-inf")
    for entry in sorted(entries, key=lambda one: one["start"]):
        last = entry["start"] + entry["seconds"]
        covered += max(0.0, last - max(entry["start"], end))
        end = max(end, last)
    return covered


def _epoch(report: dict[str, Any]) -> float | None:
    """The pilot's time zero, where the report gives it with fractions of a second."""
    from datetime import datetime

    text = report["pilot"].get("started")
    if not isinstance(text, str) or "." not in text:
        return None
    return datetime.fromisoformat(text).timestamp()


def _output(place: Place, name: str) -> str:
    return place.worker.path(PurePosixPath(OUTPUT) / name).read_text(encoding="utf-8")


def _imports(place: Place, name: str, modules: Sequence[str]) -> str:
    program = f"import sys; sys.path.insert(0, {PYZ!r}); import {', '.join(modules)}"
    words = ["python3", "-I", "-S", "-B", "-X", "utf8", "-X", "importtime", "-c", program]
    done = place.worker.run(words, user=PILOT.name, cwd=HOME)
    if done.returncode != 0:
        raise MeasurementError(f"imports of the {name}: {done.stderr.strip()[-500:]}")
    found = parse_imports(done.stderr)
    ours = sum(one.own for one in found)
    lines = [f"imports of the {name}: {len(found)} modules, {ours / 1000:.1f} ms (importtime itself adds some)"]
    lines += [
        f"{one.own / 1000:8.2f} ms alone {one.cumulative / 1000:8.2f} ms with its own  {one.module}"
        for one in sorted(found, key=lambda one: -one.own)[:MOST_IMPORTS]
    ]
    return "\n".join(lines)


def parse_imports(text: str) -> list[Import]:
    """Read what `-X importtime` writes."""
    found = (IMPORT_LINE.match(line) for line in text.splitlines())
    return [Import(m[4], int(m[1]), int(m[2]), len(m[3]) // 2) for m in found if m]
