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
    """The job that an ad as plain JSON describes. Raises ``KeyError``, ``TypeError``, ``ValueError``."""
    code = ad.get("ExitCode")
    if ad.get("ExitBySignal") and ad.get("ExitSignal") is not None:
        code = 128 + int(ad["ExitSignal"])
    host = str(ad.get("RemoteHost") or ad.get("LastRemoteHost") or "").rpartition("@")[2]
    state = STATES[int(ad["JobStatus"])]
    held = state is PilotState.HELD
    job = BatchJob(
        state,
        host,
        code,
        str(ad.get("HoldReason") or ad.get("RemoveReason") or ""),
        hold_code=int(ad.get("HoldReasonCode") or 0) if held else 0,
        hold_subcode=int(ad.get("HoldReasonSubCode") or 0) if held else 0,
        holds=int(ad.get("NumHolds") or ad.get("NumSystemHolds") or 0),
        since=float(ad.get("EnteredCurrentStatus") or 0),
        grid_job=site_number(str(ad.get("GridJobId") or "")),
        grid_state=str(ad.get("GridJobStatus") or ""),
        silent_since=float(ad.get("GridResourceUnavailableTime") or 0),
        pilot=str(ad.get("PilotId") or ""),
    )
    return JobId(int(ad["ClusterId"]), int(ad["ProcId"])), job


def site_number(grid_job: str) -> str:
    """What the site calls a job, in ``GridJobId``; empty while only HTCondor's own name of the attempt stands there."""
    words = grid_job.split()
    if len(words) < WORDS_WITH_NUMBER.get(words[0] if words else "", 3):
        return ""
    return words[-1].rstrip("/")
