"""Jobs of Slurm, PBS, LSF, SGE and other HTCondor pools: HTCondor's blahp submits them on this machine or, over ssh, on
a login node.

What the blahp makes of a description (seen with 23.9.6): it copies plain files, no directories, to the job's directory,
and moves what the job leaves back; what is missing it leaves out without a word. Slurm's memory is in MiB, its time in
minutes, rounded down.
"""

from __future__ import annotations

from server_stub.factory.descriptions.parcel import (
    EVENTS_FILE,
    LOGS_DIRECTORY,
    REPORT_FILE,
    Lines,
    Parcel,
    arguments,
    common,
    requests,
    site_credentials,
)
from server_stub.factory.entry import Entry


def describe(parcel: Parcel) -> Lines:
    """The commands for a job of a batch system behind the blahp."""
    entry, remote = parcel.entry, reached_by_ssh(parcel.entry)
    # Over ssh the files make a second journey, on which what is missing holds the job: there the directory goes along.
    inputs = [*parcel.files, REPORT_FILE, EVENTS_FILE, *((LOGS_DIRECTORY,) if remote else ()), parcel.payload]
    return {
        "universe": "grid",
        "grid_resource": _resource(parcel),
        **common(parcel),
        "arguments": arguments(parcel),
        "transfer_input_files": ", ".join(inputs),
        "transfer_output_files": f"{REPORT_FILE}, {EVENTS_FILE}, {LOGS_DIRECTORY}",
        **_wanted(entry),
        **{name: value for name, value in site_credentials(parcel).items() if not remote},
    }


def reached_by_ssh(entry: Entry) -> bool:
    """Whether the batch system is another machine's."""
    return bool(entry.contact)


def makes_logs(entry: Entry) -> bool:
    """Whether the directory of logs is made on the way home: moved to one that exists it would come to lie inside."""
    return not reached_by_ssh(entry)


def _resource(parcel: Parcel) -> str:
    """``batch slurm [options] [user@host]``; the options are those of HTCondor's ``remote_gahp``."""
    words = parcel.entry.type.split()
    if not reached_by_ssh(parcel.entry):
        return " ".join(words)
    if "ssh_key" in parcel.credentials:
        words += ["--rgahp-key", parcel.credentials["ssh_key"], "--rgahp-nopass"]
    if parcel.entry.submit.glite:
        words += ["--rgahp-glite", parcel.entry.submit.glite]
    return " ".join([*words, parcel.entry.contact])


def _wanted(entry: Entry) -> Lines:
    """What is asked of the batch system."""
    options = entry.submit
    asked = {
        "batch_queue": entry.queue,
        "batch_runtime": str(entry.walltime_seconds) if entry.walltime_seconds else "",
        "batch_project": options.project,
        "batch_extra_submit_args": options.arguments,
        "+WholeNodes": "True" if options.whole_node else "",
        "+HostNumber": "1" if options.whole_node else "",
        "+GPUNumber": str(entry.gpus) if entry.gpus else "",
    }
    found = {name: value for name, value in asked.items() if value}
    return {**{name: value for name, value in requests(entry).items() if name != "request_gpus"}, **found}
