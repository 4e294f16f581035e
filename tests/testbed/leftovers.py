"""What is on a host, to be compared with what was there before a pilot."""

from __future__ import annotations

import filecmp
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.testbed.hosts import Host
from tests.testbed.inspection import HostProcess
from tests.testbed.trees import PILOT

WATCHED = ("/home/pilot", "/tmp", "/var/tmp", "/dev/shm")
"""Where a pilot could leave files on a host."""
KEEPS_ITS_OWN = (
    "/opt/pilot", "/run/condor", "/run/mount", "/var/cache/ldconfig", "/var/lib/condor", "/var/log",
    "/var/spool/condor",
)  # fmt: skip
"""Where the grid itself keeps what comes and goes: payloads, what the daemons of its pools write, and tools of root."""
IN_MEMORY = ("/dev", "/run")
"""What of a host is not on its disk."""
UNCHANGED = ""


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


def strike_from_list(host: Host, workspaces: Iterable[Path]) -> None:
    """Take pilots that were killed off their account's list of the node's pilots, as the next pilot would."""
    listing = host.path(f"/var/tmp/pilot-agent-{PILOT.uid}")
    for workspace in workspaces:
        (listing / workspace.name).unlink(missing_ok=True)
    with suppress(OSError):  # others are on it, or there is none
        listing.rmdir()


def traces(host: Host) -> frozenset[str]:
    """Everything on a running host that its tree and the grid's own daemons do not account for, one line each: what is
    new, changed or gone on its disk and new in its memory, mounts, and processes by their arguments."""
    disk = host.directory / "upper"
    files = {_change(host.plan.tree / name[1:], disk / name[1:], name) for name in _below(disk, "")}
    for directory in IN_MEMORY:
        files |= {f"file {name}" for name in _below(host.path(directory), directory)}
    mounts = {f"mount {mount.target} {mount.kind} {mount.source}" for mount in host.mounts()}
    processes = {
        f"process of {process.uid}: {' '.join(process.argv)[:200]}"
        for process in host.processes()
        if process.state not in "ZX" and not os.path.basename(process.argv[0]).startswith("condor_")
    }
    return frozenset((files | mounts | processes) - {UNCHANGED})


def _below(root: Path, shown_as: str) -> set[str]:
    found: set[str] = set()
    for parent, directories, names in os.walk(root):
        inside = shown_as + parent.removeprefix(str(root))
        directories[:] = [name for name in directories if f"{inside}/{name}" not in KEEPS_ITS_OWN]
        found.update(f"{inside}/{name}" for name in (*directories, *names))
    return found


def _change(of_the_tree: Path, on_the_disk: Path, shown_as: str) -> str:
    """What an entry of the overlay's upper layer means: a file that was touched is there, too."""
    try:
        now = on_the_disk.lstat()
        before = of_the_tree.lstat() if os.path.lexists(of_the_tree) else None
        if stat.S_ISCHR(now.st_mode) and now.st_rdev == 0:
            return f"gone {shown_as}"
        if before is None:
            return f"file {shown_as}"
        same = (before.st_mode, before.st_uid) == (now.st_mode, now.st_uid)
        if same and stat.S_ISREG(now.st_mode):
            same = filecmp.cmp(of_the_tree, on_the_disk, shallow=False)
    except FileNotFoundError:  # it came and went
        return UNCHANGED
    return UNCHANGED if same else f"changed {shown_as}"
