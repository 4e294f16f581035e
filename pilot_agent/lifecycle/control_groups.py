"""The control group that a pilot divided for its jobs, given back as the batch system made it.

Of the group that the batch system made, ``GROUP``, the pilot makes this (see ``startd.job_groups``):

    GROUP/pilot-agent-ID/agent    all processes that were in GROUP: the pilot's, and the batch job's script above it
    GROUP/pilot-agent-ID/jobs     HTCondor's groups, one for each job

Undoing kills what is in the jobs' groups, takes back the controllers, and then moves the processes up again: the kernel
lets none into a group that hands controllers down (cgroup-v2.rst, "No Internal Process Constraint").
"""

from __future__ import annotations

import os
import time

from pilot_agent.light import signal
from pilot_agent.workspace import WORKSPACE_PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from typing import Any

    from pilot_agent.lifecycle.budget import Budget
    from pilot_agent.lifecycle.journal import GroupEntry
    from pilot_agent.workspace import Workspace

PREFIX = "pilot-agent-"
AGENT, JOBS = "agent", "jobs"
MOUNT = "/sys/fs/cgroup"
"""Where HTCondor looks for groups of version 2, and nowhere else."""
LIMIT_BYTES = 1 << 20
DEEPEST = 8
"""A job may make groups below its own; what lies deeper is told as left over."""
LEAST_SECONDS = 1.0
PAUSE_SECONDS = 0.01


def group_of(workspace: Workspace) -> str:
    """The name of the group that the workspace's pilot makes."""
    return PREFIX + os.path.basename(workspace.root).removeprefix(WORKSPACE_PREFIX)


def read_words(path: str) -> list[str]:
    """The words of a control file: pids, or controllers. Raises ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        content = b""
        while len(content) < LIMIT_BYTES and (chunk := os.read(descriptor, 1 << 16)):
            content += chunk
    finally:
        os.close(descriptor)
    return content.decode("ascii", "replace").split()


def write_word(path: str, word: str) -> None:
    """Write to a control file in one call, as the kernel wants it. Raises ``OSError``."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.write(descriptor, word.encode())
    finally:
        os.close(descriptor)


def members(group: str) -> list[int]:
    """The processes in a group itself, 0 for one that this PID namespace does not show. Raises ``OSError``."""
    return [int(word) for word in read_words(f"{group}/cgroup.procs")]


def switch(group: str, controllers: Iterable[str], sign: str) -> dict[str, OSError]:
    """Hand controllers down to the groups below (``+``) or take them back (``-``), each for itself; what was
    refused."""
    refused = {}
    for name in controllers:
        try:
            write_word(f"{group}/cgroup.subtree_control", sign + name)
        except OSError as error:
            refused[name] = error
    return refused


def move(pids: Iterable[int], group: str) -> dict[int, OSError]:
    """Move processes into a group; what was refused. One that has ended meanwhile is no refusal."""
    refused = {}
    for pid in pids:
        try:
            write_word(f"{group}/cgroup.procs", str(pid))
        except ProcessLookupError:
            continue
        except OSError as error:
            refused[pid] = error
    return refused


def give_back(
    workspace: Workspace, entries: Sequence[GroupEntry], budget: Budget, spared: Collection[int] = ()
) -> tuple[list[int], list[dict[str, Any]]]:
    """Undo the division of the batch system's group, for all of its journal's entries: their numbers where it is
    undone, and what is left over.

    A group that is gone needs nothing: it is removed last, and the kernel forgets all with the machine's next start.
    Where the journal is lost, this process's own group tells. ``spared`` are not killed.
    """
    closed, leftovers = [], []
    known = [(entry.number, entry.path, entry.before) for entry in entries]
    own = _own_division(workspace)
    if own is not None and own not in [path for _, path, _ in known]:
        known.append((0, own, ()))
    left = _at_least(budget)
    for number, path, before in known:
        try:
            _require_ours(path, workspace)
            _undo(path, before, left, spared)
        except FileNotFoundError:  # never made, or removed by the batch system
            closed.append(number)
        except OSError as error:
            cause = error.strerror or "unknown error"
            leftovers.append({"kind": "path", "path": path, "cause": f"the control group stays: {cause.lower()}"})
        else:
            closed.append(number)
    return [number for number in closed if number], leftovers


def _at_least(budget: Budget) -> Callable[[], float]:
    """Seconds left, and a moment also where the time for the end is used up: the batch system needs its group."""
    end = time.monotonic() + max(LEAST_SECONDS, budget.left())
    return lambda: end - time.monotonic()


def _own_division(workspace: Workspace) -> str | None:
    """The group that this pilot made, if this process is still in its leaf."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read(65536).split("\n")
    except OSError:
        return None
    ending = f"/{group_of(workspace)}/{AGENT}"
    paths = [line[3:] for line in lines if line.startswith("0::") and line.endswith(ending)]
    return MOUNT + paths[0].removesuffix(f"/{AGENT}") if paths else None


def _require_ours(path: str, workspace: Workspace) -> None:
    """A job may have written the journal of a pilot without containers: no other group, nor what is no group."""
    status = os.lstat(path)
    if os.path.basename(path) != group_of(workspace) or os.path.normpath(path) != path or not os.path.isabs(path):
        raise PermissionError(1, "it is not named as the pilot's")
    if status.st_uid != os.geteuid() or not _in_version_2(path):
        raise PermissionError(1, "it is no control group of this account")


def _in_version_2(path: str) -> bool:
    """Whether a path lies in a mount of control groups of version 2, the innermost mount counting."""
    found, kind = "", ""
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split(" ")
            if len(fields) > 2 and f"{path}/".startswith(fields[1].rstrip("/") + "/") and len(fields[1]) >= len(found):
                found, kind = fields[1], fields[2]
    return kind == "cgroup2"


def _undo(path: str, before: Sequence[str], left: Callable[[], float], spared: Collection[int]) -> None:
    above = os.path.dirname(path)
    _end_jobs(f"{path}/{JOBS}", left, spared)
    for group in (path, above):
        switch(group, read_words(f"{group}/cgroup.subtree_control"), "-")
    _empty(path, above, left)
    # What worked with processes in the group works with them again.
    switch(above, before, "+")


def _end_jobs(group: str, left: Callable[[], float], spared: Collection[int]) -> None:
    """Kill what is in the jobs' groups, and remove these. Raises ``OSError``."""
    while True:
        groups = tree(group)
        for each in groups:
            for pid in _members_of(each):
                if pid in spared:
                    raise PermissionError(1, f"process {pid} in it belongs to a pilot that lives")
                if pid > 0:
                    _kill(pid)
        if _removed(groups):
            return
        if left() <= 0:
            raise TimeoutError(110, "a job's process in it could not be killed in time")
        time.sleep(PAUSE_SECONDS)


def _empty(path: str, above: str, left: Callable[[], float]) -> None:
    """Move what is in the pilot's groups up, and remove them. Raises ``OSError``."""
    while True:
        groups = tree(path)
        refused = [error for each in groups for error in move(_members_of(each), above).values()]
        if _removed(groups):
            return
        if left() <= 0:
            raise refused[0] if refused else TimeoutError(110, "its processes could not be moved up in time")
        time.sleep(PAUSE_SECONDS)


def tree(group: str, depth: int = 0) -> list[str]:
    """A group and those below it, the deepest first; empty when there is none."""
    try:
        with os.scandir(group) as entries:
            inner = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    if depth >= DEEPEST:
        return [group]
    return [each for path in inner for each in tree(path, depth + 1)] + [group]


def _members_of(group: str) -> list[int]:
    try:
        return members(group)
    except OSError:  # removed meanwhile, or without processes of its own (EOPNOTSUPP)
        return []


def _removed(groups: Sequence[str]) -> bool:
    for group in groups:
        try:
            os.rmdir(group)
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
