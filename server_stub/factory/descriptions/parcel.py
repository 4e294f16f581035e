"""What goes with one pilot to its site, and what every submit description says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from server_stub.factory.entry import Entry

FACTORY_FILE = "factory.json"
ENTRY_FILE = "entry.json"
REPORT_FILE = "report.json"
EVENTS_FILE = "events.jsonl"
LOGS_DIRECTORY = "logs"
OUTPUT_FILE = "pilot.out"
ERROR_FILE = "pilot.err"

Lines = dict[str, str]
"""Commands of a submit description in their order."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One pilot's job. ``directory`` is its private one; ``launcher`` and ``payload`` are paths, ``address`` is where
    the factory publishes the payload. ``secrets`` are names in the directory that nobody else may read. ``credentials``
    are paths by kind (``scitoken``, ``x509``, ``ssh_key``), by which the site lets the factory in."""

    factory: str
    entry: Entry
    pilot: str
    sha256: str
    directory: str
    launcher: str
    payload: str
    address: str
    secrets: tuple[str, ...] = ()
    credentials: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        """Names in the directory that the pilot needs."""
        return (FACTORY_FILE, ENTRY_FILE, *self.secrets)


def common(parcel: Parcel) -> Lines:
    """Where the job's files are, and whose it is."""
    return {
        "executable": parcel.launcher,
        "initialdir": parcel.directory,
        "output": OUTPUT_FILE,
        "error": ERROR_FILE,
        "log": "pilot.log",
        "getenv": "False",
        "notification": "Never",
        "transfer_executable": "True",
        "My.PilotFactory": f'"{parcel.factory}"',
        "My.PilotEntry": f'"{parcel.entry.name}"',
        "My.PilotId": f'"{parcel.pilot}"',
    }


def arguments(parcel: Parcel, *, numbers: bool = True) -> str:
    """The launcher's arguments. The job's number exists only once it is submitted: the batch system puts it in the
    place of its own macros."""
    options, entry = parcel.entry.submit, parcel.entry
    words = [f"--payload {entry.payload_file} --sha256 {parcel.sha256}"]
    words += [f"--python {pattern}" for pattern in options.python]
    words += [f"--image {options.image}"] if options.image else []
    words += [f"-- run --config factory={FACTORY_FILE} --config entry={ENTRY_FILE}"]
    words += ["--set factory.cluster=$(Cluster) --set factory.process=$(Process)"] if numbers else []
    return f'"{" ".join(words)} --output ."'


def requests(entry: Entry) -> Lines:
    """What the job asks of the batch system; nothing where that decides."""
    asked = {
        "request_cpus": str(entry.cores) if entry.cores else "",
        "request_memory": f"{entry.memory_mib}M" if entry.memory_mib else "",
        "request_gpus": str(entry.gpus) if entry.gpus else "",
    }
    return {name: value for name, value in asked.items() if value}


def payload_source(parcel: Parcel) -> str:
    """What brings the payload to the node under the name that the launcher is told."""
    return parcel.address if parcel.entry.submit.payload == "url" else parcel.payload


def site_credentials(parcel: Parcel) -> Lines:
    """By what a computing element lets the job in."""
    lines: Lines = {}
    if "scitoken" in parcel.credentials:
        lines |= {"use_scitokens": "True", "scitokens_file": parcel.credentials["scitoken"]}
    if "x509" in parcel.credentials:
        lines |= {"use_x509userproxy": "True", "x509userproxy": parcel.credentials["x509"]}
    return lines
