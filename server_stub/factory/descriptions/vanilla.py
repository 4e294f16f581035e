"""Jobs of the pool whose access point runs beside the factory."""

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
)


def describe(parcel: Parcel) -> Lines:
    """The commands for a vanilla job."""
    outputs = (REPORT_FILE, EVENTS_FILE, LOGS_DIRECTORY)
    lines = {
        "universe": "vanilla",
        **common(parcel),
        "arguments": arguments(parcel),
        # A pilot that its site preempted is not started again; whether another one is wanted the factory decides.
        "requirements": f"({parcel.entry.requirements}) && (MY.NumJobStarts ?: 0) == 0",
        **requests(parcel.entry),
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        # A job whose output is missing is held. Empty ones go along, so a pilot that ends before it writes its own
        # comes back all the same, with what it printed.
        "transfer_input_files": ", ".join((*parcel.files, *outputs, payload_source(parcel))),
        "transfer_output_files": ", ".join(outputs),
        "kill_sig": "SIGTERM",
        "want_graceful_removal": "True",
        "periodic_remove": "JobStatus == 1 && NumJobStarts > 0",
    }
    if parcel.secrets:
        lines["encrypt_input_files"] = ", ".join(parcel.secrets)
    return lines
