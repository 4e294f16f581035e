"""Taking pilots' reports: watches their jobs to the end, reads and judges what they returned, stores it."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, replace

from pilot_agent.files import read_bounded
from pilot_agent.lifecycle.publish import MARKER
from pilot_agent.model import FailureKind, Json
from pilot_agent.report import SCHEMA
from server_stub.batch import BatchJob, BatchSystem
from server_stub.entries import Factory
from server_stub.store import Pilot, PilotState, Store
from server_stub.submit import ERROR_FILE, OUTPUT_FILE, REPORT_FILE, drop_token

REPORT_LIMIT_BYTES = 16 << 20
SAID_LIMIT_BYTES = REPORT_LIMIT_BYTES + (1 << 20)
SHOWN_CHARACTERS = 300
OUTCOMES = frozenset({"ok", "failed", "preempted"})

# A job may be missing for a moment between the queue and the history.
LOST_AFTER_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Summary:
    """What the store shows of a report beside the whole of it."""

    outcome: str
    failure_kind: str = ""
    failure_code: str = ""
    message: str = ""
    jobs_started: int = 0


class ReportError(ValueError):
    """What a pilot returned is no report; the message says what it is instead."""


class EmptyReportError(ReportError):
    """The pilot wrote nothing where its report goes."""


def collect(factory: Factory, store: Store, batch: BatchSystem, *, now: float | None = None) -> list[Pilot]:
    """Ask the batch system once about every unfinished pilot; those of which something changed, as stored now.

    Raises ``PilotError`` (batch.failed) before anything was changed, or between two pilots.
    """
    unfinished = [pilot for pilot in store.pilots(unfinished=True) if pilot.job is not None]
    if not unfinished:
        return []
    queue = batch.queue(factory.name)
    moment = time.time() if now is None else now
    changed = []
    for pilot in unfinished:
        told = queue.get(pilot.job) if pilot.job else None
        if told is None and pilot.job is not None:
            told = batch.ended(pilot.job)
        newer, report = _newer(pilot, told, moment)
        if newer != pilot:
            store.save(newer, report=report)
            changed.append(newer)
        if newer.state.final:
            drop_token(newer.directory)
    return changed


def _newer(pilot: Pilot, told: BatchJob | None, now: float) -> tuple[Pilot, Json]:
    if told is None:
        return _missing(pilot, now), None
    newer = replace(pilot, state=told.state, host=told.host or pilot.host, missing_since=None)
    if told.state is PilotState.HELD:
        return replace(newer, message=told.reason), None
    if not told.state.final:
        return newer, None
    ended, report = _with_report(replace(newer, ended=now, exit_code=told.exit_code, message=""))
    if report is None and pilot.state is PilotState.HELD:  # why it was held explains more than what it did not return
        ended = replace(ended, message=pilot.message)
    return ended, report


def _missing(pilot: Pilot, now: float) -> Pilot:
    if pilot.missing_since is None:
        return replace(pilot, missing_since=now)
    if now - pilot.missing_since < LOST_AFTER_SECONDS:
        return pilot
    message = f"neither the queue nor the history knows the job {pilot.job}"
    return replace(pilot, state=PilotState.LOST, ended=now, message=message)


def _with_report(pilot: Pilot) -> tuple[Pilot, Json]:
    try:
        report = find_report(pilot.directory)
        summary = judge(report)
    except ReportError as error:
        return replace(pilot, message=f"{error}{_last_words(pilot.directory)}"), None
    return replace(
        pilot,
        outcome=summary.outcome,
        failure_kind=summary.failure_kind,
        failure_code=summary.failure_code,
        message=summary.message,
        jobs_started=summary.jobs_started,
        report=True,
    ), report


def find_report(directory: str) -> Json:
    """What a pilot returned as its report: the file, or, where it could not write one, what it printed between its
    markers. Raises ``ReportError``."""
    path = os.path.join(directory, REPORT_FILE)
    try:
        return read_report(path)
    except EmptyReportError:
        _, _, rest = _said(directory, OUTPUT_FILE).partition(f"{MARKER}\n")
        printed, end, _ = rest.partition(MARKER)
        if not end:
            raise
        return _parse(printed)


def _said(directory: str, name: str) -> str:
    try:
        content = read_bounded(os.path.join(directory, name), limit_bytes=SAID_LIMIT_BYTES)
    except OSError:
        return ""
    return content.decode("utf-8", "replace")


def _last_words(directory: str) -> str:
    """The last line that a pilot without a report wrote to standard error."""
    lines = _said(directory, ERROR_FILE).strip().splitlines()
    return f"; it last said: {lines[-1][:SHOWN_CHARACTERS]}" if lines else ""


def read_report(path: str) -> Json:
    """The document that a pilot returned. Raises ``ReportError`` when there is none or it is no JSON."""
    try:
        content = read_bounded(path, limit_bytes=REPORT_LIMIT_BYTES + 1)
    except OSError as error:
        raise ReportError(f"the pilot's report cannot be read: {error.strerror}") from error
    if not content.strip():
        raise EmptyReportError("no report came back")
    if len(content) > REPORT_LIMIT_BYTES:
        raise ReportError(f"the pilot's report is larger than {REPORT_LIMIT_BYTES >> 20} MiB")
    return _parse(content)


def _parse(content: bytes | str) -> Json:
    try:
        return json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ReportError(f"the pilot's report is no JSON: {error}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def judge(report: Json) -> Summary:
    """What a report says, once it is certain that it is one. Raises ``ReportError`` with the place that is wrong."""
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        found = report.get("schema") if isinstance(report, dict) else type(report).__name__
        raise ReportError(f"the pilot's report has the schema {found!r} and not {SCHEMA!r}")
    for name, kind in (("pilot", dict), ("outcome", dict), ("timeline", list), ("node", dict), ("jobs", dict)):
        if not isinstance(report.get(name), kind):
            raise ReportError(f"the pilot's report has no proper {name!r}")
    outcome = report["outcome"].get("status")
    if outcome not in OUTCOMES:
        raise ReportError(f"the pilot's report has the outcome {outcome!r}, none of {', '.join(sorted(OUTCOMES))}")
    started = report["jobs"].get("started")
    if not isinstance(started, int):
        raise ReportError(f"the pilot's report says that {started!r} jobs were started")
    failure = report["outcome"].get("failure")
    if failure is None:
        return Summary(outcome, jobs_started=started)
    if not isinstance(failure, dict) or failure.get("kind") not in set(FailureKind):
        raise ReportError("the pilot's report has a failure of no known kind")
    return Summary(outcome, failure["kind"], str(failure.get("code")), str(failure.get("message")), started)
