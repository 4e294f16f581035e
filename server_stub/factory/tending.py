"""What the factory does about jobs that do not get on: releases what may be well the next time, removes what is stale
or held for good, forgets what does not go."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from server_stub.batch import BatchJob, BatchSystem
from server_stub.factory.entry import Entry
from server_stub.factory.entry_tending import Tending
from server_stub.factory.pilots import JobId, Pilot, PilotState

BY_A_PERSON = (1, 15, 16)
"""``HoldReasonCode`` of jobs that somebody holds, or still brings files of: they are let be until they are stale."""
RELEASED_AT_ONCE = 20
REMOVED_AT_ONCE = 100
"""So many of an entry in one round: the rest in the next ones."""


class Care(enum.StrEnum):
    """What is done with a job."""

    RELEASE = "release"
    REMOVE = "remove"
    FORGET = "forget"


AT_ONCE = {Care.RELEASE: RELEASED_AT_ONCE, Care.REMOVE: REMOVED_AT_ONCE, Care.FORGET: REMOVED_AT_ONCE}


@dataclass(frozen=True, slots=True)
class Deed:
    """What is done with one pilot's job, and why."""

    care: Care
    pilot: str
    job: JobId
    reason: str


def decide(
    pilots: Iterable[Pilot], jobs: Mapping[JobId, BatchJob], entries: Mapping[str, Entry], now: float
) -> list[Deed]:
    """What is to be done with the jobs in the queue, the oldest pilots' first. An entry that is not in the factory's
    file any more is borne with as one that says nothing of it."""
    deeds, counts = [], Counter[tuple[str, Care]]()
    for pilot in pilots:
        told = jobs.get(pilot.job) if pilot.job is not None else None
        if told is None or pilot.job is None:
            continue
        entry = entries.get(pilot.entry)
        walltime = entry.walltime_seconds if entry is not None else None
        judged = _judge(pilot, told, entry.tending if entry is not None else Tending(), walltime, now)
        if judged is None:
            continue
        care, reason = judged
        counts[pilot.entry, care] += 1
        if counts[pilot.entry, care] <= AT_ONCE[care]:
            deeds.append(Deed(care, pilot.id, pilot.job, reason))
    return deeds


def act(deeds: Iterable[Deed], batch: BatchSystem) -> None:
    """Do it, all of a kind and reason in one question. Raises ``PilotError`` (batch.failed)."""
    together: dict[tuple[Care, str], list[JobId]] = {}
    for deed in deeds:
        together.setdefault((deed.care, deed.reason), []).append(deed.job)
    does = {Care.RELEASE: batch.release, Care.REMOVE: batch.remove, Care.FORGET: batch.forget}
    for (care, reason), jobs in together.items():
        does[care](jobs, reason)


def _judge(
    pilot: Pilot, told: BatchJob, tending: Tending, walltime_seconds: int | None, now: float
) -> tuple[Care, str] | None:
    # Of a job of which the batch system tells no moment nothing is known to have lasted long.
    lasted = now - told.since if told.since else 0.0
    if told.leaving:
        reason = f"the site did not let it go within {tending.leaving_seconds} s"
        return (Care.FORGET, reason) if lasted > tending.leaving_seconds else None
    if told.state is PilotState.HELD:
        return _judge_held(told, tending, lasted)
    if told.state is PilotState.QUEUED and now - pilot.submitted > tending.queued_seconds:
        return Care.REMOVE, f"it waited in the queue for more than {tending.queued_seconds} s"
    longest = tending.longest_run_seconds(walltime_seconds)
    if told.state is PilotState.RUNNING and lasted > longest:
        return Care.REMOVE, f"it ran for more than {longest} s"
    return None


def _judge_held(told: BatchJob, tending: Tending, lasted: float) -> tuple[Care, str] | None:
    """Each release waits twice as long as the one before it: how often a job was held says how often it was tried."""
    if lasted > tending.held_seconds:
        return Care.REMOVE, f"it was held for more than {tending.held_seconds} s"
    if told.hold_code in BY_A_PERSON:
        return None
    if told.hold_code not in tending.release:
        return Care.REMOVE, f"it is held for a reason that stays (code {told.hold_code})"
    times = max(1, told.holds)
    if times > tending.releases:
        return Care.REMOVE, f"it was held {times} times"
    pause = tending.pause_seconds * 2.0 ** (times - 1)
    return (Care.RELEASE, f"held {times} times, tried again") if lasted >= pause else None
