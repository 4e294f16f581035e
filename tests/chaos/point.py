"""One point from its arrangement to its evidence."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema

import pilot_agent
from tests.chaos import gates, ledger
from tests.chaos.arena import POLL_SECONDS, Arena, ChaosPilot
from tests.chaos.choice import Point
from tests.chaos.evidence import Evidence, begin
from tests.chaos.ground import Ground
from tests.chaos.ledger import PointJob
from tests.chaos.traces import Traces, look
from tests.testbed.hosts import Host
from tests.testbed.pilots import PRODUCTS, PilotError

END_SECONDS = 120.0
"""How long a pilot may take for an end for which its budget is 25 s, on a machine that has other things to do."""
CLEAN_SECONDS = 60.0
SCHEMA = Path(pilot_agent.__file__).with_name("report.schema.json")
STATUS = {0: "ok", 128 + signal.SIGTERM: "preempted", 128 + signal.SIGQUIT: "preempted"}
"""What the report says for an exit code; every other one is a failure."""
STORY_CHARACTERS = 20_000


def run(ground: Ground, node: Host, point: Point, seed: int) -> tuple[Evidence, PointJob | None]:
    """Run one point on a node. The evidence lacks only the fate of its jobs, which the pool may still be running."""
    began = time.monotonic()
    evidence = begin(point, seed)
    evidence.node = node.plan.name
    arena = Arena(ground, node, point.stage, point.payload)
    with ground.alone() if point.fault.shared else ground.together():
        try:
            _run(arena, point, evidence)
        except Exception as error:  # noqa: BLE001 - whatever went wrong is this point's result, and others go on
            evidence.problems.append(_in_one_line(error))
        if evidence.problems or evidence.leftovers:
            evidence.story = _story(arena)
        _put_right(arena, evidence)
    evidence.notes = arena.notes
    evidence.seconds = round(time.monotonic() - began, 1)
    return evidence, arena.job


def _run(arena: Arena, point: Point, evidence: Evidence) -> None:
    fault = point.fault
    fault.arrange(arena)
    pilot = arena.make_pilot()
    evidence.pilot = pilot.name
    before = look(arena.node)
    if arena.stage in ("running", "teardown"):
        arena.queue_job()
    pilot.start()
    _reach(arena)
    evidence.last_event_before = next(iter(pilot.events()[-1:]), None)
    fault.strike(arena)
    struck = time.monotonic()
    _follow(arena, point)
    evidence.exit_code = pilot.wait(END_SECONDS)
    evidence.seconds_from_strike_to_end = round(time.monotonic() - struck, 1)
    evidence.events = pilot.events()[-40:]
    if evidence.exit_code not in evidence.expected_exit_codes:
        evidence.problems.append(f"exit code {evidence.exit_code}, expected {evidence.expected_exit_codes}")
    if fault.listed and not _report(pilot).get("leftovers"):
        evidence.problems.append("the report does not list what could not be undone")
    if arena.control is not None:
        arena.notes["refused_requests"] = arena.refused()
        if not arena.refused():
            evidence.problems.append("the file system refused nothing: the fault was never met")
    fault.heal(arena)
    _look_for_leftovers(arena, point, before, evidence)
    _look_at_report(pilot, point, evidence)


def _reach(arena: Arena) -> None:
    """Wait until the pilot is at the stage of the point."""
    stage = arena.stage
    if stage in gates.GATED and "gate" in arena.plugins:
        arena.need(f"stage {stage}", lambda: arena.mark("at").exists())
    elif stage in gates.PASSING:
        arena.need(f"stage {stage}", lambda: arena.happened("stage.started", stage=stage))
    elif stage == "idle":
        arena.need("joining the pool", lambda: arena.happened("pool.joined"))
    elif stage in ("running", "teardown") and arena.job_count == 1:
        arena.need("the job's start", lambda: arena.job_file(ledger.READY))
    if stage == "teardown":
        arena.pilot.signal(signal.SIGTERM)
        arena.need("the teardown's begin", lambda: arena.happened("pilot.ending"))


def _follow(arena: Arena, point: Point) -> None:
    """Let happen what is to happen between the strike and the pilot's end."""
    after = point.fault.afterwards(arena.stage)
    if after == "endures":
        arena.open_gate()
        point.fault.until(arena)
        if not point.fault.listed:  # otherwise nothing would be left to be listed
            point.fault.heal(arena)
    elif point.fault.ends_early:
        arena.open_gate()
    if after in ("told", "endures") and not arena.ended():
        arena.pilot.signal(signal.SIGTERM)


def _look_for_leftovers(arena: Arena, point: Point, before: Traces, evidence: Evidence) -> None:
    pilot = arena.pilot
    allowed = [f"{pilot.start_directory}/{name}" for name in ("plugins", *PRODUCTS)]
    # Where nobody is left to clean up there is nothing to wait for.
    nobody_is_left = point.fault.no_report or point.fault.listed
    patience = 0.0 if point.fault.sweep and nobody_is_left else CLEAN_SECONDS
    evidence.leftovers = _left(arena, before, allowed, patience)
    if evidence.leftovers and point.fault.sweep:
        evidence.notes["left_for_the_next_pilot"] = evidence.leftovers[:20]
        evidence.swept_by_next_pilot = True
        following = _next_pilot(arena)
        evidence.leftovers = _left(arena, before, [*allowed, following.start_directory], CLEAN_SECONDS)
        following.destroy()


def _next_pilot(arena: Arena) -> ChaosPilot:
    """The next pilot of the node begins, and is told to end when its probes run."""
    following = arena.another_pilot({"gate": gates.gate("probe")})
    following.start()
    mark = following.outer / "plugins" / "at"
    following.wait_until("the next pilot's probes", lambda: mark.exists() or not following.running, END_SECONDS)
    following.signal(signal.SIGTERM)
    following.wait(END_SECONDS)
    return following


def _left(arena: Arena, before: Traces, allowed: list[str], seconds: float) -> list[str]:
    until = time.monotonic() + seconds
    while found := look(arena.node).since(before, allowed):
        if time.monotonic() > until:
            return found
        time.sleep(20 * POLL_SECONDS)
    return []


def _look_at_report(pilot: ChaosPilot, point: Point, evidence: Evidence) -> None:
    report = _report(pilot)
    if not report:
        evidence.report = "absent"
        if point.fault.no_report:
            evidence.report = f"absent ({point.fault.no_report})"
        else:
            evidence.problems.append("no report was published")
        return
    errors = sorted(jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).iter_errors(report), key=str)
    evidence.report = "invalid" if errors else "valid"
    evidence.problems += [f"report: {error.json_path}: {error.message[:200]}" for error in errors[:5]]
    evidence.outcome = report.get("outcome")
    evidence.report_leftovers = report.get("leftovers", [])
    if evidence.report_leftovers and not point.fault.listed:
        evidence.problems.append(f"the report lists leftovers: {evidence.report_leftovers[:5]}")
    expected = STATUS.get(evidence.exit_code or 0, "failed")
    status = (evidence.outcome or {}).get("status")
    # Without its guardian a pilot has no exit code that its report could agree with.
    if evidence.exit_code != -signal.SIGKILL and status != expected:
        evidence.problems.append(f"the report says {status}, the exit code {evidence.exit_code}")


def _report(pilot: ChaosPilot) -> dict[str, Any]:
    try:
        return pilot.report()
    except (PilotError, ValueError):
        return {}


def _story(arena: Arena) -> str:
    try:
        log = f"\n--- job\n{arena.job.log()}" if arena.job is not None else ""
        return (arena.pilot.story() + log)[-STORY_CHARACTERS:]
    except (OSError, AssertionError) as error:
        return f"no story: {error}"


def _put_right(arena: Arena, evidence: Evidence) -> None:
    """Leave the node as the next point needs it: with a new disk where this one left something."""
    steps: list[Callable[[], Any]] = [arena.undo.close]
    if arena.job is not None:
        steps.append(arena.job.release)
    steps += [arena.pilot.destroy] if evidence.pilot else []
    if evidence.problems or evidence.leftovers:
        steps.append(lambda: arena.ground.renew(arena.node))
    for step in steps:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - the other steps are still needed
            evidence.problems.append(f"putting the node right: {_in_one_line(error)}")


def _in_one_line(error: Exception) -> str:
    """What was wrong; a PilotError's further lines are the story, which the evidence has anyway."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
