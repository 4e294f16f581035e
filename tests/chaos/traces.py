"""What is on a node, so that what a pilot left can be told from what was there before: more than files and mounts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path

from tests.testbed.hosts import Host
from tests.testbed.leftovers import snapshot
from tests.testbed.trees import PILOT

LISTENING = "0A"
"""The state of a TCP socket that waits for connections (include/net/tcp_states.h)."""
SYSTEM_V = ("/proc/sysvipc/shm", "/proc/sysvipc/sem", "/proc/sysvipc/msg")
BACKING = "/var/lib/chaos"
"""Where the faulty file systems keep what they show."""


@dataclass(frozen=True, slots=True)
class Traces:
    """Everything that a pilot must leave as it was."""

    files: frozenset[str]
    mounts: frozenset[str]
    processes: frozenset[str]
    sockets: frozenset[str]
    shared_memory: frozenset[str]

    def since(self, before: Traces, allowed: Collection[str] = ()) -> list[str]:
        """What is here and was not before, one line each, a directory with all in it as one. What is at or below
        the paths in `allowed` may stay."""
        found = []
        for field in fields(self):
            new = getattr(self, field.name) - getattr(before, field.name)
            named = (item for item in sorted(new) if item.rpartition("/")[0] not in new)
            found += [f"{field.name}: {item}" for item in named if not _is_below(item, allowed)]
        return found


def look(host: Host) -> Traces:
    """Look at a running node."""
    seen = snapshot(host)
    backing = host.path(BACKING)
    hidden = {f"{BACKING}/{path.relative_to(backing)}" for path in backing.rglob("*")} if backing.is_dir() else set()
    listed = host.run(["cat", *SYSTEM_V]).stdout.splitlines()
    return Traces(
        files=seen.files | hidden,
        mounts=frozenset(seen.mounts),
        processes=frozenset(seen.processes),
        sockets=_sockets(host.pid),
        shared_memory=frozenset(line for line in listed if not line.lstrip().startswith("key")),
    )


def _sockets(pid: int) -> frozenset[str]:
    """Abstract Unix sockets of the node's network namespace, and its listening and datagram sockets of the pilot."""
    found = set()
    for line in _lines(pid, "unix"):
        words = line.split()
        if words[-1].startswith("@"):
            found.add(f"unix {words[-1]}")
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        for line in _lines(pid, protocol):
            words = line.split()
            local, state, uid = words[1], words[3], words[7]
            if uid == str(PILOT.uid) and (protocol.startswith("udp") or state == LISTENING):
                found.add(f"{protocol} {local}")
    return frozenset(found)


def _lines(pid: int, name: str) -> list[str]:
    return Path(f"/proc/{pid}/net/{name}").read_text(encoding="ascii", errors="replace").splitlines()[1:]


def _is_below(item: str, allowed: Collection[str]) -> bool:
    return any(item == path or item.startswith(path + "/") for path in allowed)
