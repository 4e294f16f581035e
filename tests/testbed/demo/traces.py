"""What a pilot could leave on a worker node, looked at before and after."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tests.testbed.hosts import Host

# Everywhere an ordinary account may write, and where the site's batch system puts its jobs.
PLACES = ("/tmp", "/var/tmp", "/home", "/dev/shm", "/dev/mqueue", "/run", "/var/lib/condor/execute")
SETTLE_SECONDS = 15.0
POLL_SECONDS = 0.5

# These belong to the site's own HTCondor and come and go with it.
OWN_FILES = ("/run/condor/", "/run/lock/condor/")


@dataclass(frozen=True, slots=True)
class Traces:
    """One look at a node: processes as ``uid command``, mounts, files; each a set of readable lines."""

    processes: frozenset[str]
    mounts: frozenset[str]
    files: frozenset[str]

    def beyond(self, before: Traces) -> Traces:
        """What is there now and was not before."""
        return Traces(self.processes - before.processes, self.mounts - before.mounts, self.files - before.files)

    @property
    def none(self) -> bool:
        """True when there is nothing at all."""
        return not (self.processes or self.mounts or self.files)

    def __str__(self) -> str:
        return "; ".join(
            f"{name} {', '.join(sorted(found)[:5])}"
            for name, found in (("process", self.processes), ("mount", self.mounts), ("file", self.files))
            if found
        )


def look(host: Host) -> Traces:
    """Processes, mounts and files of a worker node now."""
    processes = (f"uid {process.uid} {' '.join(process.argv)[:80]}" for process in host.processes())
    mounts = (f"{mount.target} ({mount.kind} {mount.source})" for mount in host.mounts())
    return Traces(frozenset(processes), frozenset(mounts), frozenset(_files(host)))


def left_behind(host: Host, before: Traces) -> Traces:
    """What is there beyond ``before``, once the site's own daemons had time to end what they do after a job."""
    until = time.monotonic() + SETTLE_SECONDS
    while not (found := look(host).beyond(before)).none and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
    return found


def _files(host: Host) -> list[str]:
    found: list[str] = []
    for place in PLACES:
        top = host.path(place)
        for directory, names, files in os.walk(top):
            inside = PurePosixPath(place) / Path(directory).relative_to(top)
            found += (str(inside / name) for name in (*names, *files))
    return [path for path in found if not path.startswith(OWN_FILES)]
