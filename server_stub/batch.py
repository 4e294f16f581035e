"""The site's batch system: an HTCondor pool, spoken to with its own programs and argument lists."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from pilot_agent.files import read_bounded
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.process import Result, run
from server_stub.factory.pilots import JobId, PilotState

DEADLINE_SECONDS = 60.0
OUTPUT_LIMIT_BYTES = 64 << 20
SUBMITTED = re.compile(r"^(\d+)\.(\d+) - (\d+)\.(\d+)$", re.MULTILINE)
NAME = re.compile(r'^Name = "([A-Za-z0-9][A-Za-z0-9_.@-]*)"$', re.MULTILINE)
AD_LIMIT_BYTES = 1 << 20

# JobStatus of a job ad; 6 is the transfer of its output, 7 suspended.
STATES = {
    1: PilotState.QUEUED,
    2: PilotState.RUNNING,
    3: PilotState.REMOVED,
    4: PilotState.ENDED,
    5: PilotState.HELD,
    6: PilotState.RUNNING,
    7: PilotState.RUNNING,
}
ATTRIBUTES = "ClusterId,ProcId,JobStatus,RemoteHost,LastRemoteHost,HoldReason,ExitBySignal,ExitCode,ExitSignal"


@dataclass(frozen=True, slots=True)
class BatchJob:
    """A job as the batch system tells it; ``exit_code`` is 128+N when signal N ended it, None while unknown."""

    state: PilotState
    host: str = ""
    exit_code: int | None = None
    reason: str = ""


class BatchSystem(Protocol):
    """What the factory needs of a batch system. Everything but ``schedd`` raises ``PilotError`` (batch.failed) when it
    is not answered; then nothing may be concluded about any job."""

    def submit(self, description: str) -> JobId:
        """Hand in the job that the submit description at this path describes."""
        ...

    def schedd(self) -> str:
        """The name of the access point that takes the jobs; empty when it does not tell it."""
        ...

    def queue(self, factory: str) -> dict[JobId, BatchJob]:
        """The factory's jobs that are in the queue."""
        ...

    def ended(self, job: JobId) -> BatchJob | None:
        """A job that left the queue; None when the batch system does not know it (yet)."""
        ...


class HTCondor:
    """The HTCondor pool whose access point runs on this machine."""

    def submit(self, description: str) -> JobId:
        """See ``BatchSystem``."""
        done = _call(["condor_submit", "-terse", description], directory=os.path.dirname(description))
        found = SUBMITTED.search(done.text)
        if found is None:
            raise _failed(f"condor_submit did not name the job that it made: {done.text[:200]!r}")
        return JobId(int(found[1]), int(found[2]))

    def schedd(self) -> str:
        """See ``BatchSystem``. The schedd writes its ad to a file, by which HTCondor's own programs find it too.

        Nothing depends on the name: an access point that does not work is the submission's to tell.
        """
        try:
            path = _call(["condor_config_val", "SCHEDD_DAEMON_AD_FILE"]).text.strip()
            ad = read_bounded(path, limit_bytes=AD_LIMIT_BYTES).decode(errors="replace")
        except (PilotError, OSError):
            return ""
        found = NAME.search(ad)
        return found[1] if found else ""

    def queue(self, factory: str) -> dict[JobId, BatchJob]:
        """See ``BatchSystem``."""
        constraint = f'PilotFactory == "{factory}"'
        done = _call(["condor_q", "-json", "-constraint", constraint, "-attributes", ATTRIBUTES])
        # A job that is being removed or sends its output home is still in the queue, and has not ended.
        return {job: replace(told, state=PilotState.RUNNING) if told.state.final else told for job, told in _jobs(done)}

    def ended(self, job: JobId) -> BatchJob | None:
        """See ``BatchSystem``."""
        done = _call(["condor_history", "-json", "-limit", "1", "-attributes", ATTRIBUTES, str(job)])
        return next((told for found, told in _jobs(done) if found == job), None)


def _call(argv: Sequence[str], *, directory: str | None = None) -> Result:
    done = run(
        argv,
        deadline_seconds=DEADLINE_SECONDS,
        environment=os.environ,
        directory=directory,
        output_limit_bytes=OUTPUT_LIMIT_BYTES,
    )
    if not done.ok:
        raise _failed(done.explain())
    return done


def _jobs(done: Result) -> list[tuple[JobId, BatchJob]]:
    text = done.text
    try:
        ads: list[Json] = json.loads(text) if text else []
        return [parse_ad(ad) for ad in ads]
    except (ValueError, KeyError, TypeError) as error:
        raise _failed(f"{done.argv[0]} answered something that is no list of jobs: {error}") from error


def parse_ad(ad: Json) -> tuple[JobId, BatchJob]:
    """The job that an ad in HTCondor's JSON describes. Raises ``KeyError``, ``TypeError``, ``ValueError``."""
    code = ad.get("ExitCode")
    if ad.get("ExitBySignal") and ad.get("ExitSignal") is not None:
        code = 128 + int(ad["ExitSignal"])
    host = str(ad.get("RemoteHost") or ad.get("LastRemoteHost") or "").rpartition("@")[2]
    state = STATES[int(ad["JobStatus"])]
    reason = str(ad.get("HoldReason") or "")
    return JobId(int(ad["ClusterId"]), int(ad["ProcId"])), BatchJob(state, host, code, reason)


def _failed(message: str) -> PilotError:
    hint = "see whether the site's access point runs here and accepts this account; the factory's operator must act"
    return PilotError(Failure(FailureKind.NETWORK, "batch.failed", message, hint, retry=True))
