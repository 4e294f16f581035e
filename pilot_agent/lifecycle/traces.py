"""Processes that belong to a workspace, from what they carry with them: however they left their parents, their session
and their environment, most were started in it, run from it, hold something of it open, or see it in their mounts."""

from __future__ import annotations

import os

from pilot_agent.lifecycle.identity import PROC, read_stat
from pilot_agent.lifecycle.processes import children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

LIMIT_BYTES = 4 << 20
LINKS = ("cwd", "root", "exe")
LOCK = b"/private/lock"
"""Held by who looks whether the pilot lives: another pilot's sweep, too."""


def traced(root: str) -> list[int]:
    """The processes of this account that carry a trace of the workspace ``root``, whose name is unique.

    A process at somebody's terminal only looks at it, and is no part of it.
    """
    needle = b"/" + os.fsencode(os.path.basename(root))
    # What this process sees mounted, all of the node see.
    common = set(_mounted_roots("self"))
    return [pid for pid in _own_processes() if _carries(pid, needle, common) and not _at_terminal(pid)]


def below(roots: Iterable[int], spared: Collection[int] = ()) -> list[int]:
    """These processes and all below them but for ``spared`` and what is below those; parents before children."""
    found: dict[int, None] = {}
    level = [pid for pid in roots if pid not in spared]
    while level:
        found.update(dict.fromkeys(level))
        level = [child for pid in level for child in children(pid) if child not in spared and child not in found]
    return list(found)


def ancestors(pid: int) -> list[int]:
    """``pid`` and those above it, as far as this PID namespace shows them."""
    found = []
    while pid > 0 and pid not in found:
        found.append(pid)
        stat = read_stat(pid)
        pid = stat.parent if stat is not None else 0
    return found


def _own_processes() -> list[int]:
    found = []
    for name in os.listdir(PROC):
        try:
            if name.isdigit() and os.stat(f"{PROC}/{name}").st_uid == os.geteuid():
                found.append(int(name))
        except OSError:  # it ended
            continue
    return found


def _carries(pid: int, needle: bytes, common: Collection[bytes]) -> bool:
    """Arguments do not count: who goes on with a pilot that was cut is told its workspace there."""
    directory = os.fsencode(f"{PROC}/{pid}")
    links = [directory + b"/" + os.fsencode(name) for name in LINKS]
    try:
        links += [directory + b"/fd/" + os.fsencode(name) for name in os.listdir(f"{PROC}/{pid}/fd")]
    except OSError:  # its own program keeps others from looking into it
        return False
    targets = [_target(link) for link in links]
    if any(needle in target and not target.endswith(LOCK) for target in targets):
        return True
    roots = (root for root in _mounted_roots(pid) if root not in common)
    return needle in _text(pid, "environ") or any(needle in root for root in roots)


def _mounted_roots(pid: int | str) -> list[bytes]:
    """What of its file system each mount shows, which for a job is a part of the workspace. Where things are mounted
    says nothing: all processes of the node see a mount that a dead pilot left."""
    lines = _text(pid, "mountinfo").splitlines()
    return [fields[3] for line in lines if len(fields := line.split(b" ", 4)) > 4]


def _target(link: bytes) -> bytes:
    try:
        return os.readlink(link)
    except OSError:
        return b""


def _text(pid: int | str, name: str) -> bytes:
    try:
        with open(f"{PROC}/{pid}/{name}", "rb") as file:
            return file.read(LIMIT_BYTES)
    except OSError:
        return b""


def _at_terminal(pid: int) -> bool:
    """proc(5): the seventh field of ``stat`` is the controlling terminal, 0 for none."""
    fields = _text(pid, "stat").rpartition(b")")[2].split()
    return len(fields) > 4 and fields[4] != b"0"
