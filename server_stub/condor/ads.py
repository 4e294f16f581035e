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
        grid_job=str(ad.get("GridJobId") or ""),
        grid_state=str(ad.get("GridJobStatus") or ""),
        pilot=str(ad.get("PilotId") or ""),
    )
    return JobId(int(ad["ClusterId"]), int(ad["ProcId"])), job
