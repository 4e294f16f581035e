"""Jobs of NorduGrid's computing element, spoken to over its REST interface."""

from __future__ import annotations

from xml.sax.saxutils import escape

from server_stub.factory.descriptions.parcel import (
    EVENTS_FILE,
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


def describe(parcel: Parcel) -> Lines:
    """The commands for a job of ARC. Its descriptions know files only, so the directory of logs stays there."""
    outputs = (REPORT_FILE, EVENTS_FILE)
    lines = {
        "universe": "grid",
        "grid_resource": f"arc {parcel.entry.contact}",
        **common(parcel),
        "arguments": arguments(parcel),
        "transfer_input_files": ", ".join((*parcel.files, *outputs, payload_source(parcel))),
        "transfer_output_files": ", ".join(outputs),
        **{name: value for name, value in requests(parcel.entry).items() if name == "request_cpus"},
        **site_credentials(parcel),
    }
    if (wanted := resources(parcel.entry)) != "":
        lines["arc_resources"] = wanted
    if parcel.entry.submit.runtime_environments:
        lines["arc_rte"] = ", ".join(parcel.entry.submit.runtime_environments)
    return lines


def resources(entry: Entry) -> str:
    """Elements of the job description's ``Resources``. HTCondor itself writes the number of slots. Memory is in bytes
    and counts for each slot; which of the two times a version of ARC obeys differs."""
    elements = []
    if entry.queue:
        elements.append(("QueueName", entry.queue))
    if entry.memory_mib:
        elements.append(("IndividualPhysicalMemory", str((entry.memory_mib << 20) // (entry.cores or 1))))
    if entry.walltime_seconds:
        elements += [(name, str(entry.walltime_seconds)) for name in ("IndividualWallTime", "TotalWallTime")]
    return "".join(f"<{name}>{escape(value)}</{name}>" for name, value in elements)
