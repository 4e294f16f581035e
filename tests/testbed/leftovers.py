"""What is on a host, to be compared with what was there before a pilot."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tests.testbed.hosts import Host
from tests.testbed.inspection import HostProcess
from tests.testbed.trees import PILOT

WATCHED = ("/home/pilot", "/tmp", "/var/tmp", "/dev/shm")
"""Where a pilot could leave files on a host."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a pilot must leave as it was: files, mounts, processes of its account."""

    files: frozenset[str]
    mounts: tuple[str, ...]
    processes: tuple[str, ...]


def snapshot(host: Host) -> Snapshot:
    """Look at a host; sockets and other special files count as files."""
    files: set[str] = set()
    for directory in WATCHED:
        root = host.path(directory)
        for parent, directories, names in os.walk(root):
            inside = directory + parent.removeprefix(str(root))
            files.update(f"{inside}/{name}" for name in (*directories, *names))
    mounts = tuple(sorted(f"{mount.target} {mount.kind} {mount.source}" for mount in host.mounts()))
    return Snapshot(frozenset(files), mounts, tuple(shown(process) for process in pilot_processes(host)))


def pilot_processes(host: Host) -> list[HostProcess]:
    """Every process of the pilots' account that has not ended."""
    return [process for process in host.processes() if process.uid == PILOT.uid and process.state not in "ZX"]


def shown(process: HostProcess) -> str:
    """One line for a person."""
    return f"{process.pid} {process.state} {' '.join(process.argv)[:200]}"
