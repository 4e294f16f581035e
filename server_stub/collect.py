"""Taking pilots' reports: watches their jobs to the end, reads and judges what they returned, stores it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from pilot_agent.files import read_bounded
from pilot_agent.model import FailureKind, Json, PilotError
from pilot_agent.output.printed import find_printed
from pilot_agent.report import SCHEMA
from server_stub.adopt import adopt
from server_stub.batch import BatchJob, BatchSystem
from server_stub.entries import Factory
from server_stub.factory.following import follow
from server_stub.factory.log import tell
from server_stub.factory.pilots import JobId, Pilot
from server_stub.factory.scores import at, is_number
from server_stub.factory.store import Store
from server_stub.factory.tending import act, decide
from server_stub.factory.texts import shown
from server_stub.foreign import read_foreign, require_bearable
from server_stub.submit import ERROR_FILE, OUTPUT_FILE, REPORT_FILE, drop_token

REPORT_LIMIT_BYTES = 16 << 20
SAID_LIMIT_BYTES = REPORT_LIMIT_BYTES + (1 << 20)
MOST_SECONDS = 10 * 366 * 86400.0
MOST_JOBS = 2**31 - 1  # what an INTEGER column of any database holds
OUTCOMES = frozenset({"ok", "failed", "preempted"})


@dataclass(frozen=True, slots=True)
class Summary:
    """What the store shows of a report beside the whole of it."""

    outcome: str
    failure_kind: str = ""
    failure_code: str = ""
    message: str = ""
    jobs_started: int = 0
    jobs_evicted: int = 0
    jobs_failed: int = 0
    validation_seconds: float | None = None
    busy_seconds: float | None = None
    idle_seconds: float | None = None

    def of(self, pilot: Pilot) -> Pilot:
        """The pilot as its report tells it."""
        told = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return replace(pilot, report=True, **told)


class ReportError(ValueError):
    """What a pilot returned is no report; the message says what it is instead."""


class EmptyReportError(ReportError):
    """The pilot wrote nothing where its report goes."""


def collect(factory: Factory, store: Store, batch: BatchSystem, *, now: float | None = None) -> list[Pilot]:
    """Ask the batch system once about every unfinished pilot; those of which something changed, as stored now. Then
    jobs that do not get on are released, removed or forgotten, as their entries say.

    A report that cannot be stored becomes a message of its pilot and stops nothing. Raises ``PilotError``
    (batch.failed) before anything was changed; an access point that does not do what it is asked to is logged alone.
    """
    known = store.pilots(unfinished=True)
    queue = batch.queue(factory.name)  # also where there is none: whoever looks is told whether it answers
    if not known:
        return []
    moment = time.time() if now is None else now
    unfinished = [pilot for pilot in adopt(store, known, queue, moment) if pilot.job is not None]
    gone = [pilot.job for pilot in unfinished if pilot.job is not None and pilot.job not in queue]
    jobs = {**(batch.ended(gone) if gone else {}), **queue}
    changed = [newer for pilot in unfinished if (newer := _look_after(pilot, jobs, store, moment)) != pilot]
    entries = {entry.name: entry for entry in factory.entries}
    try:
        act(decide(unfinished, queue, entries, moment), batch)
    except PilotError as error:
        # What was asked is answered and stored all the same; the next time it is tried again.
        log = structlog.get_logger("server_stub.collect")
        tell(log.warning, "tending.failed", code=error.failure.code, message=error.failure.message)
    return changed


def _look_after(pilot: Pilot, jobs: Mapping[JobId, BatchJob], store: Store, now: float) -> Pilot:
    """One pilot as stored now."""
    told = jobs.get(pilot.job) if pilot.job is not None else None
    newer = follow(pilot, told, now)
    if told is not None and told.state.final:
        newer = _save_with_report(store, pilot, newer)
    elif newer != pilot:
        store.save(newer, known=pilot)
    if newer.state.final:
        drop_token(newer.directory)
    return newer


def _save_with_report(store: Store, known: Pilot, pilot: Pilot) -> Pilot:
    """Store a pilot that ended, with its report when it returned one; as stored."""
    # Jobs run with the pilot's uid: a report is what strangers may have written, and one must not stop the collector.
    try:
        ended, report = _with_report(pilot)
        store.save(ended, known=known, report=report)
    except Exception as error:  # noqa: BLE001 - whatever it is, the pilots after this one have done nothing wrong
        ended = replace(pilot, message=shown(f"the pilot's report cannot be stored: {type(error).__name__}: {error}"))
        store.save(ended, known=known)
    return ended


def _with_report(pilot: Pilot) -> tuple[Pilot, Json]:
    try:
        report = find_report(pilot.directory)
        summary = judge(report)
    except ReportError as error:
        # Why it was held explains more than what it did not return.
        said = pilot.message or shown(f"{error}{_last_words(pilot.directory)}")
        return replace(pilot, message=said), None
    return summary.of(pilot), report


def find_report(directory: str) -> Json:
    """What a pilot returned as its report: the file, or, where it could not write one, what it printed between its
    markers. Raises ``ReportError``."""
    path = os.path.join(directory, REPORT_FILE)
    try:
        return read_report(path)
    except EmptyReportError:
        whole = [printed.report for printed in find_printed(_said(directory, OUTPUT_FILE)) if not printed.problem]
        if not whole:
            raise
        return _bearable(whole[-1])


def _bearable(printed: Json) -> Json:
    try:
        require_bearable(printed)
    except ValueError as error:
        raise ReportError(f"the pilot's report is not taken: {error}") from error
    return printed


def _said(directory: str, name: str) -> str:
    try:
        content = read_bounded(os.path.join(directory, name), limit_bytes=SAID_LIMIT_BYTES)
    except OSError:
        return ""
    return content.decode("utf-8", "replace")


def _last_words(directory: str) -> str:
    """The last line that a pilot without a report wrote to standard error."""
    lines = _said(directory, ERROR_FILE).strip().splitlines()
    return f"; it last said: {lines[-1]}" if lines else ""


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
        return read_foreign(content)
    except ValueError as error:
        raise ReportError(f"the pilot's report is no JSON: {error}") from error


def judge(report: Json) -> Summary:
    """What a report says, once it is certain that it is one. Raises ``ReportError`` with the place that is wrong."""
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        found = report.get("schema") if isinstance(report, dict) else type(report).__name__
        raise ReportError(f"the pilot's report has the schema {shown(repr(found))} and not {SCHEMA!r}")
    for name, shape in (("pilot", dict), ("outcome", dict), ("timeline", list), ("node", dict), ("jobs", dict)):
        if not isinstance(report.get(name), shape):
            raise ReportError(f"the pilot's report has no proper {name!r}")
    outcome = report["outcome"].get("status")
    if not isinstance(outcome, str) or outcome not in OUTCOMES:
        known = ", ".join(sorted(OUTCOMES))
        raise ReportError(f"the pilot's report has the outcome {shown(repr(outcome))}, none of {known}")
    started = report["jobs"].get("started")
    if not isinstance(started, int) or isinstance(started, bool) or not 0 <= started <= MOST_JOBS:
        raise ReportError(f"the pilot's report says that {shown(repr(started))} jobs were started")
    failure = report["outcome"].get("failure")
    if failure is None:
        return Summary(outcome, jobs_started=started, **_spent(report["jobs"]))
    kind = failure.get("kind") if isinstance(failure, dict) else None
    if not isinstance(kind, str) or kind not in set(FailureKind):
        raise ReportError("the pilot's report has a failure of no known kind")
    code, message = shown(failure.get("code")), shown(failure.get("message"))
    return Summary(outcome, kind, code, message, started, **_spent(report["jobs"]))


def _spent(jobs: Json) -> dict[str, Any]:
    """What the pilot's time went to; what is no sensible number is left out."""
    found: dict[str, Any] = {}
    for name, ending in (("jobs_evicted", "evicted"), ("jobs_failed", "not started")):
        count = at(jobs, "ended", ending)
        found[name] = int(count) if is_number(count) and 0 <= count <= MOST_JOBS else 0
    for name in ("validation_seconds", "busy_seconds", "idle_seconds"):
        seconds = at(jobs, name)
        if is_number(seconds) and 0 <= seconds <= MOST_SECONDS:
            found[name] = float(seconds)
    return found
