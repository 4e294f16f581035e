"""What is made of one answer: the record in it, the verdict of a requirement or a check, its line in the timeline."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TypeVar

from pilot_agent import host
from pilot_agent.codec import CodecError, from_json, to_json
from pilot_agent.config_expressions import expression_problem
from pilot_agent.hookspecs import Check, SetupResult
from pilot_agent.model import CheckResult, CheckStatus, Failure, FailureKind, Json, PilotError, TimelineEntry
from pilot_agent.plugins import containers
from pilot_agent.requirement_text import REQUIRED, parse
from pilot_agent.requirements import evaluate, unanswerable
from pilot_agent.state import State

T = TypeVar("T")
_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def requirement_result(entry: Json, state: State) -> CheckResult:
    """The verdict on one configured requirement, over the facts of the node or those found inside an image."""
    if isinstance(entry, str):
        return evaluate(parse(entry), state.facts)
    requirement, level = parse(entry["require"]), entry.get("level") or REQUIRED
    if entry.get("where") != "image":
        return evaluate(requirement, state.facts, level)
    try:
        inside = containers.image_facts(state.container, entry.get("platform"))
    except PilotError as error:
        return unanswerable(requirement, level, error.failure, where="image")
    return replace(evaluate(requirement, inside, level), where="image")


def check_result(ended: host.Ended) -> CheckResult:
    """The verdict of a check; one that is not required warns at most."""
    record: Check = ended.declared.record
    result, ended = decoded(ended, CheckResult)
    result = _no_verdict(record, ended.failure) if result is None else replace(result, kind=record.kind)
    return judged(result, required=record.required)


def judged(result: CheckResult, *, required: bool) -> CheckResult:
    """The verdict as it counts: a failure of what is not required is a warning."""
    if result.status is CheckStatus.FAIL and not required:
        return replace(result, status=CheckStatus.WARN)
    return result


def _no_verdict(record: Check, failure: Failure | None) -> CheckResult:
    """What is required and cannot be shown counts as failed; where jobs get no such image there is nothing to check."""
    message = failure.message if failure else "no verdict"
    kind, code, hint = FailureKind.PLUGIN, "plugin.crashed", ""
    status = CheckStatus.FAIL
    if failure is not None and failure.kind is not FailureKind.PLUGIN:
        kind, code, hint = failure.kind, failure.code, failure.hint
        status = CheckStatus.FAIL if record.required else CheckStatus.SKIP
    return CheckResult(record.name, status, message, hint, where=record.where, kind=kind, code=code)


def decoded(ended: host.Ended, kind: type[T]) -> tuple[T | None, host.Ended]:
    """The answer as a record; when it is none, the ended task carries the failure that says so."""
    if ended.failure is not None:
        return None, ended
    try:
        found = from_json(kind, ended.answer)
        to_json(found)  # no report could hold what is no number
    except CodecError as error:
        return None, spoilt(ended, str(error))
    return found, ended


def with_good_expressions(result: SetupResult | None, ended: host.Ended) -> tuple[SetupResult | None, host.Ended]:
    """A setup's result, unless one of its expressions is none or has a name that no attribute can have."""
    for name, text in (result.expressions if result is not None else {}).items():
        problem = expression_problem(text)
        if not _ATTRIBUTE.fullmatch(name):
            problem = "is no name of an attribute: letters, digits and _ are, and no digit first"
        if problem:
            return None, spoilt(ended, f"expressions: {name[:100]!r} {problem}")
    return result, ended


def spoilt(ended: host.Ended, problem: str) -> host.Ended:
    """The task as failed, for an answer that is of no use."""
    message = f"{ended.declared.record.name}: {problem}"
    failure = Failure(FailureKind.PLUGIN, "plugin.answer", message, plugin=ended.declared.plugin)
    return replace(ended, failure=failure)


def timeline_entry(state: State, stage: str, ended: host.Ended) -> TimelineEntry:
    """What the report's timeline says of it."""
    failure = ended.failure
    status = "ok" if failure is None else "timeout" if failure.code == "plugin.timeout" else "failed"
    return TimelineEntry(
        stage=stage,
        plugin=ended.declared.plugin,
        what=ended.declared.record.name,
        start=round(ended.started - state.started, 4),
        seconds=round(ended.seconds, 4),
        status=status,
        detail=failure.message if failure else "",
    )
