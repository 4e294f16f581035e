"""Entries of every type, each as plain and with all that can be said: what HTCondor itself must accept."""

from __future__ import annotations

from typing import Any

from pilot_agent.config_check import Problem
from server_stub.factory.descriptions.parcel import Parcel
from server_stub.factory.entry import Entry, read_entry
from server_stub.factory.reader import Reader

WANTED = {"cores": 8, "memory_mib": 16000, "gpus": 2, "walltime_seconds": 86400, "queue": "long"}
LAUNCHER = {"python": ["/cvmfs/soft.example.org/*/bin/python3.?"], "image": "/cvmfs/images.example.org/el9"}
LOGIN = "pilot@login.example.org:2222"
MACHINE = {"image": "image-1", "machine": "large", "zone": "zone-1", "access_key": "/k/a", "secret_key": "/k/s"}

ENTRIES: dict[str, dict[str, Any]] = {
    "local": {"type": "local"},
    "local-full": {"type": "local", **WANTED, **LAUNCHER, "submit": {"lines": {"rank": "Mips", "+Group": '"pilots"'}}},
    **{
        f"{system}{suffix}": {"type": f"batch {system}", **more}
        for system in ("slurm", "pbs", "lsf", "sge", "condor")
        for suffix, more in (
            ("", {}),
            ("-full", {**WANTED, **LAUNCHER, "submit": {"project": "p1", "arguments": "--qos=high -x node[1-3]"}}),
            ("-ssh", {"contact": LOGIN, "submit": {"glite": "~/bosco/glite"}}),
            ("-node", {"cores": "auto", "memory_mib": "auto", "submit": {"whole_node": True}}),
        )
    },
    "ce": {"type": "condor", "contact": "ce.example.org"},
    "ce-full": {
        "type": "condor",
        "contact": "ce.example.org:9620",
        **WANTED,
        **LAUNCHER,
        "requirements": 'TARGET.Arch == "X86_64"',
        "submit": {"schedd": "schedd@ce.example.org", "payload": "file", "lines": {"+remote_Rank": "Mips"}},
    },
    "arc": {"type": "arc", "contact": "https://arc.example.org/arex"},
    "arc-full": {
        "type": "arc",
        "contact": "arc.example.org:443",
        **WANTED,
        **LAUNCHER,
        "submit": {"runtime_environments": ["ENV/PROXY", "APPS/HEP/CVMFS"]},
    },
    "ec2": {"type": "ec2", "contact": "https://ec2.us-east-1.amazonaws.com/", "cloud": MACHINE},
    "ec2-full": {
        "type": "ec2",
        "contact": "https://ec2.us-east-1.amazonaws.com/",
        **WANTED,
        "cloud": {**MACHINE, "network": "subnet-1", "spot_price": "0.05"},
    },
    "gce": {
        "type": "gce",
        "contact": "https://www.googleapis.com/compute/v1",
        "cloud": {**MACHINE, "project": "project-1"},
    },
    "azure": {"type": "azure", "contact": "4e2f-1a", "cloud": {**MACHINE, "administrator": "admin"}},
}
CREDENTIALS = {"scitoken": "/c/site.token", "x509": "/c/proxy.pem", "ssh_key": "/c/key"}


def entry(name: str) -> Entry:
    """An entry as it is read from a factory's file."""
    problems: list[Problem] = []
    made = read_entry(Reader({"name": name, "site": "S", "payload": "sh", **ENTRIES[name]}, "", "/", problems))
    assert problems == []
    return made


def parcel(name: str, directory: str = "/state/pilots/a1", **changes: Any) -> Parcel:
    """What goes with a pilot to it."""
    told: dict[str, Any] = {
        "factory": "example",
        "entry": entry(name),
        "pilot": "a1",
        "sha256": "0" * 64,
        "directory": directory,
        "launcher": f"{directory}/launcher.sh",
        "payload": f"{directory}/payload/pilot.sh",
        "address": "https://factory.example.org/payload/pilot.sh",
        "secrets": ("pilot.token", "upload.token"),
    }
    return Parcel(**{**told, **changes})
