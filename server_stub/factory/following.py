"""A pilot as its batch job tells it, from the queue until nothing more comes."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

from pilot_agent.model import FailureKind
from server_stub.batch import BatchJob
from server_stub.factory.pilots import Pilot, PilotState
from server_stub.factory.texts import shown

# A job may be missing for a moment between the queue and the history.
LOST_AFTER_SECONDS = 120.0

SILENT = "its site does not answer"
HELD_FAILURE = "job.held"
KINDS = {
    **dict.fromkeys((6, 34, 35, 45), FailureKind.NODE_RESOURCE),
    4: FailureKind.CREDENTIAL,
    **dict.fromkeys((3, 5, 7, 8, 14, 22, 25, 26, 27, 32, 33, 37, 39), FailureKind.CONFIG),
}
"""Who must act when a job is held, by ``HoldReasonCode``; for the others it is the site, or the way to it."""


def follow(pilot: Pilot, told: BatchJob | None, now: float) -> Pilot:
    """The pilot as the batch system tells it; one that ended keeps its message until its report was read."""
    if told is None:
        return _missing(pilot, now)
    grid_job = shown(told.grid_job) or pilot.grid_job
    if told.leaving:  # what it was while it was removed says why
        return replace(pilot, grid_job=grid_job, missing_since=None)
    started = now if pilot.started is None and told.state is PilotState.RUNNING else pilot.started
    host = shown(told.host) or pilot.host
    newer = replace(pilot, state=told.state, host=host, missing_since=None, started=started, grid_job=grid_job)
    if told.state is PilotState.HELD:
        kind = KINDS.get(told.hold_code, FailureKind.NETWORK)
        return replace(newer, message=shown(told.reason), failure_kind=kind.value, failure_code=HELD_FAILURE)
    if told.state.final:
        return _ended(pilot, newer, told, now)
    if told.silent_since:
        since = dt.datetime.fromtimestamp(told.silent_since, dt.UTC).strftime("%Y-%m-%d %H:%M")
        return replace(newer, message=f"{SILENT} since {since} UTC", failure_kind="", failure_code="")
    if pilot.state is PilotState.HELD or pilot.message.startswith(SILENT):  # it was let go, or the site is back
        return replace(newer, message="", failure_kind="", failure_code="")
    return newer


def _ended(known: Pilot, newer: Pilot, told: BatchJob, now: float) -> Pilot:
    """One that was removed while it was held failed for what held it."""
    ended = replace(newer, ended=now, exit_code=told.exit_code)
    if known.state is PilotState.HELD:
        return replace(ended, outcome="failed")
    return replace(ended, message=shown(told.reason) if told.state is PilotState.REMOVED else "")


def _missing(pilot: Pilot, now: float) -> Pilot:
    if pilot.missing_since is None:
        return replace(pilot, missing_since=now)
    if now - pilot.missing_since < LOST_AFTER_SECONDS:
        return pilot
    message = f"neither the queue nor the history knows the job {pilot.job}"
    return replace(pilot, state=PilotState.LOST, ended=now, message=message)
