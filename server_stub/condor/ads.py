"""What a job's ad says."""

from __future__ import annotations

from pilot_agent.model import Json
from server_stub.batch import BatchJob
from server_stub.factory.pilots import JobId, PilotState

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
# The blahp and EC2 first write a name of the attempt: batch SYSTEM NAME NUMBER, ec2 URL NAME NUMBER; others have
# condor SCHEDD POOL NUMBER, arc HOST NUMBER.
WORDS_WITH_NUMBER = {"batch": 4, "ec2": 4, "condor": 4}
LARGEST = 2**31 - 256
"""With 128 and more for a signal it is still what a column of any database holds."""
LATEST = 2.0**53
ATTRIBUTES = (
    "ClusterId",
    "ProcId",
    "JobStatus",
    "EnteredCurrentStatus",
    "RemoteHost",
    "LastRemoteHost",
    "ExitBySignal",
    "ExitCode",
    "ExitSignal",
    "HoldReason",
    "HoldReasonCode",
    "HoldReasonSubCode",
    "NumHolds",
    "NumSystemHolds",
    "RemoveReason",
    "GridJobId",
    "GridJobStatus",
    "GridResourceUnavailableTime",
    "PilotId",
)


def parse_ad(ad: Json) -> tuple[JobId, BatchJob]:
    """The job that an ad as plain JSON describes. What only its site said of it may be anything, and counts as unknown
    where it makes no sense: one site must not hide the jobs of all others.

    Raises ``KeyError``, ``TypeError``, ``ValueError``: the access point itself did not say which job it is.
    """
    code, signal = _whole(ad.get("ExitCode")), _whole(ad.get("ExitSignal"))
    if ad.get("ExitBySignal") and signal is not None:
        code = 128 + signal
    host = str(ad.get("RemoteHost") or ad.get("LastRemoteHost") or "").rpartition("@")[2]
    state = STATES[int(ad["JobStatus"])]
    held = state is PilotState.HELD
    job = BatchJob(
        state,
        host,
        code,
        str(ad.get("HoldReason") or ad.get("RemoveReason") or ""),
        hold_code=_whole(ad.get("HoldReasonCode")) or 0 if held else 0,
        hold_subcode=_whole(ad.get("HoldReasonSubCode")) or 0 if held else 0,
        holds=_whole(ad.get("NumHolds")) or _whole(ad.get("NumSystemHolds")) or 0,
        since=_moment(ad.get("EnteredCurrentStatus")),
        grid_job=site_number(str(ad.get("GridJobId") or "")),
        grid_state=str(ad.get("GridJobStatus") or ""),
        silent_since=_moment(ad.get("GridResourceUnavailableTime")),
        pilot=str(ad.get("PilotId") or ""),
    )
    return JobId(int(ad["ClusterId"]), int(ad["ProcId"])), job


def _whole(value: Json) -> int | None:
    """A whole number that a column of any database holds; None for what is none."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST:
        return value
    return None


def _moment(value: Json) -> float:
    """Epoch seconds; 0 for what are none."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LATEST:
        return float(value)
    return 0.0


def site_number(grid_job: str) -> str:
    """What the site calls a job, in ``GridJobId``; empty while only HTCondor's own name of the attempt stands there."""
    words = grid_job.split()
    if len(words) < WORDS_WITH_NUMBER.get(words[0] if words else "", 3):
        return ""
    return words[-1].rstrip("/")
