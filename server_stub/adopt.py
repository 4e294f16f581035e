"""Finding again what was submitted when the factory stopped, or got no answer, before it could note the job.

A pilot is stored before its job is made, and the job carries the pilot's name: what is in the queue is recognised by
it, and what has left the queue by the log that the access point writes beside the pilot's files. So no pilot is lost,
and none is submitted in the place of one that is on its way.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from pilot_agent.files import read_bounded
from server_stub.batch import BatchJob
from server_stub.entries import Factory
from server_stub.factory.log import tell
from server_stub.factory.pilots import JobId, Pilot, PilotState
from server_stub.factory.store import Store
from server_stub.submit import refuse

LOG_FILE = "pilot.log"
LOG_LIMIT_BYTES = 1 << 20
SUBMITTED = re.compile(rb"^000 \((\d{1,9})\.(\d{1,9})\.\d+\)", re.MULTILINE)
"""The event of a submission, as access points log it."""
GIVEN_UP_SECONDS = 900.0
"""Longer than a submission takes: a pilot without a job after that was never submitted. Should its job appear all the
same, it is taken."""


def adopt(store: Store, pilots: Sequence[Pilot], queue: Mapping[JobId, BatchJob], now: float) -> list[Pilot]:
    """The unfinished ``pilots`` as stored now, those without a job with the one that was found; a pilot that was never
    submitted is refused and left out."""
    known = {pilot.job for pilot in pilots}
    # A pool that is its own grid site has two jobs of a pilot: the first is the factory's.
    latest_first = sorted(queue, key=lambda job: (job.cluster, job.process), reverse=True)
    unclaimed = {queue[job].pilot: job for job in latest_first if queue[job].pilot and job not in known}
    found = []
    for pilot in pilots:
        newer: Pilot | None = pilot
        if pilot.job is None:
            newer = _found(store, pilot, unclaimed.pop(pilot.id, None) or logged_job(pilot.directory), now)
        if newer is not None:
            found.append(newer)
    return [*found, *_given_up_too_early(store, unclaimed)]


def _found(store: Store, pilot: Pilot, job: JobId | None, now: float) -> Pilot | None:
    log = structlog.get_logger("server_stub.adopt")
    if job is not None:
        adopted = replace(pilot, state=PilotState.QUEUED, job=job, ended=None, message="")
        store.save(adopted, known=pilot)
        tell(log.info, "pilot.adopted", pilot=pilot.id, entry=pilot.entry, job=str(job))
        return adopted
    if now - pilot.submitted <= GIVEN_UP_SECONDS:
        return pilot
    refuse(pilot, "the factory stopped before this pilot was submitted, and no job of it was found since", store)
    tell(log.warning, "pilot.given_up", pilot=pilot.id, entry=pilot.entry)
    return None


def _given_up_too_early(store: Store, unclaimed: Mapping[str, JobId]) -> list[Pilot]:
    """Pilots whose job appeared in the queue although they were taken for never submitted. A job of a pilot that has
    another one, or that is not known here at all, is nobody's and left alone."""
    found = []
    for name, job in unclaimed.items():
        pilot = store.get(name)
        if pilot is not None and pilot.job is None:
            adopted = _found(store, pilot, job, pilot.submitted)
            found += [adopted] if adopted is not None else []
    return found


def logged_job(directory: str) -> JobId | None:
    """The job that the log in a pilot's directory says was submitted; None where there is none."""
    try:
        content = read_bounded(os.path.join(directory, LOG_FILE), limit_bytes=LOG_LIMIT_BYTES)
    except OSError:
        return None
    told = SUBMITTED.search(content)
    return JobId(int(told[1]), int(told[2])) if told else None


def sweep(factory: Factory, store: Store, now: float) -> list[str]:
    """Remove directories that were made for pilots which were never stored, as a kill leaves them; their names. What
    was ever submitted stays: a factory that opened another store has pilots that this one does not know."""
    swept = []
    for found in _directories(os.path.join(factory.state, "pilots")):
        with contextlib.suppress(OSError):
            young = now - found.stat(follow_symlinks=False).st_mtime < GIVEN_UP_SECONDS
            if young or os.path.lexists(os.path.join(found.path, LOG_FILE)) or store.get(found.name) is not None:
                continue
            shutil.rmtree(found.path)
            swept.append(found.name)
    if swept:
        log = structlog.get_logger("server_stub.adopt")
        tell(log.info, "pilots.swept", directories=len(swept))
    return swept


def _directories(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as listed:
            return [found for found in listed if found.is_dir(follow_symlinks=False)]
    except OSError:
        return []
