"""Jobs of another access point: an HTCondor-CE, or any schedd of another pool."""

from __future__ import annotations

from server_stub.factory.descriptions.parcel import (
    EVENTS_FILE,
    LOGS_DIRECTORY,
    REPORT_FILE,
    Lines,
    Parcel,
    arguments,
    common,
    payload_source,
    requests,
    site_credentials,
)
from server_stub.factory.entry import Entry

CE_PORT = 9619
MINUTE_SECONDS = 60


def describe(parcel: Parcel) -> Lines:
    """The commands for a job that the remote access point runs as one of its own."""
    outputs = (REPORT_FILE, EVENTS_FILE, LOGS_DIRECTORY)
    lines = {
        "universe": "grid",
        "grid_resource": _resource(parcel.entry),
        **common(parcel),
        "arguments": arguments(parcel),
        **requests(parcel.entry),
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        "transfer_input_files": ", ".join((*parcel.files, *outputs, payload_source(parcel))),
        "transfer_output_files": ", ".join(outputs),
        **_there(parcel.entry),
        **site_credentials(parcel),
    }
    if parcel.secrets:
        lines["encrypt_input_files"] = ", ".join(parcel.secrets)
    return lines


def _resource(entry: Entry) -> str:
    """``condor SCHEDD COLLECTOR``. A CE's schedd has the name of its host, and its collector HTCondor-CE's port."""
    host, _, port = entry.contact.partition(":")
    return f"condor {entry.submit.schedd or host} {host}:{port or CE_PORT}"


def _there(entry: Entry) -> Lines:
    """What counts at the other end: attributes by which a CE's job router translates for the batch system behind it,
    and those that a job has in a pool. ``remote_`` is taken off on the way."""
    lines = {
        "+remote_JobUniverse": "5",
        # A pilot that its site preempted is not started again there either.
        "+remote_Requirements": f"({entry.requirements}) && (MY.NumJobStarts ?: 0) == 0",
        "+remote_PeriodicRemove": "JobStatus == 1 && (NumJobStarts ?: 0) > 0",
        "+remote_WantGracefulRemoval": "True",
    }
    asked = {
        "+xcount": entry.cores,
        "+maxMemory": entry.memory_mib,
        "+maxWallTime": -(-entry.walltime_seconds // MINUTE_SECONDS) if entry.walltime_seconds else None,
    }
    lines |= {name: str(value) for name, value in asked.items() if value}
    return lines | ({"+remote_queue": f'"{entry.queue}"'} if entry.queue else {})
