"""Undo what a dead pilot left: its processes, wherever they went, what its setups did, mounts, shared memory, files."""

from __future__ import annotations

import os
import signal
import sys
import time

from pilot_agent.lifecycle.adopted import read_adopted
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.finish import RUNTIME_PREFIX
from pilot_agent.lifecycle.identity import read_stat, still_same
from pilot_agent.lifecycle.inherited import keep_what_is_left_to_do, undo_setups, waiting
from pilot_agent.lifecycle.journal import read_journal
from pilot_agent.lifecycle.mounts import unmount_all
from pilot_agent.lifecycle.processes import POLL_SECONDS, leftover, running
from pilot_agent.lifecycle.removal import NotOurs, remove_tree
from pilot_agent.lifecycle.shared_memory import Segments
from pilot_agent.lifecycle.teardown import remove_workspace, undo_groups
from pilot_agent.lifecycle.traces import below, traced
from pilot_agent.pidfd import open_pidfd, send_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from pilot_agent.lifecycle.identity import Identity
    from pilot_agent.lifecycle.inherited import Teardowns
    from pilot_agent.workspace import Workspace

ENDING_SHARE = 0.5
"""Of the time for one pilot: what ending its processes may take."""


class Undone:
    """What became of a dead pilot's things: names of the processes that were ended, the teardowns that were run with
    their ends, and what is left over."""

    __slots__ = ("leftovers", "processes", "teardowns")

    def __init__(self) -> None:
        self.processes: list[str] = []
        self.teardowns: list[str] = []
        self.leftovers: list[dict[str, Any]] = []


def undo(workspace: Workspace, runtime: str, spared: Collection[int], own: Teardowns | None, budget: Budget) -> Undone:
    """Undo everything that is left of a pilot of which nothing lives. ``spared`` are processes that no trace makes a
    part of it, nor what is below them; ``own`` are this pilot's teardowns, None while it does not know them.

    No command of the dead pilot's journal is run, as it may be a job's.
    """
    undone = Undone()
    journal = read_journal(workspace.journal)
    known = [entry.identity for entry in journal.processes if entry.identity is not None]
    segments = Segments()
    time_for_them = Budget(budget.left() * ENDING_SHARE)
    known += read_adopted(workspace)
    undone.processes, undone.leftovers = end_processes(workspace, known, spared, segments, time_for_them)
    not_undone: list[dict[str, Any]] = []
    if own is not None:
        undone.teardowns, not_undone = undo_setups(workspace, own, budget)
    undone.leftovers += undo_groups(workspace, budget, spared)
    undone.leftovers += unmount_all(workspace.root, [], budget)
    segments.remove(budget)
    undone.leftovers += remove_unpacked(runtime, budget)
    # What is left over is tried again by the next one, for which the workspace must say whose it is.
    kept = bool(undone.leftovers) or waiting(workspace)
    undone.leftovers += not_undone
    if kept:
        undone.leftovers += remove_workspace(workspace, budget, keep=(os.path.basename(workspace.private),))
        undone.leftovers += keep_what_is_left_to_do(workspace, budget)
    else:
        undone.leftovers += remove_workspace(workspace, budget)
    return undone


def real_place(directory: str) -> str:
    """Which directory ``remove_tree`` would remove: it takes away ``..`` before it follows links."""
    return os.path.realpath(os.path.normpath(directory))


def remove_unpacked(directory: str, budget: Budget) -> list[dict[str, Any]]:
    """Remove the interpreter that was unpacked for the dead pilot alone, whatever is left of it."""
    if not directory or real_place(directory) == os.path.realpath(sys.prefix):
        return []
    try:
        return remove_tree(directory, budget, prefix=f"{RUNTIME_PREFIX}.")
    except NotOurs as refusal:
        return [{"kind": "path", "path": directory, "cause": str(refusal)}]


def end_processes(
    workspace: Workspace, known: list[Identity], spared: Collection[int], segments: Segments, budget: Budget
) -> tuple[list[str], list[dict[str, Any]]]:
    """Stop all of them, so that none starts a successor, then kill them; names and what is left over."""
    ended: dict[int, str] = {}
    stopped: set[tuple[int, int]] = set()
    while True:
        found = _found(workspace, known, spared)
        fresh = {each: name for each, name in found.items() if each not in stopped}
        for (pid, ticks), name in fresh.items():
            _send(pid, ticks, signal.SIGSTOP)
            ended[pid] = name
        stopped.update(fresh)
        if fresh and budget.left() > 0:
            continue
        segments.look(pid for pid, _ in found)
        for pid, ticks in found:
            _send(pid, ticks, signal.SIGKILL)
        alive = [pid for pid, _ in found]
        while (alive := running(alive)) and budget.left() > 0:
            time.sleep(POLL_SECONDS)
        if not found or budget.left() <= 0:
            return sorted(set(ended.values())), [leftover(pid) for pid in alive]


def _found(workspace: Workspace, known: list[Identity], spared: Collection[int]) -> dict[tuple[int, int], str]:
    """Pid and start time of each process that belongs to it, with its name."""
    roots = [identity.pid for identity in known if still_same(identity)] + traced(workspace.root)
    stats = {pid: read_stat(pid) for pid in below(roots, spared)}
    return {
        (pid, stat.start_ticks): stat.name for pid, stat in stats.items() if stat is not None and stat.state not in "ZX"
    }


def _send(pid: int, start_ticks: int, number: int) -> None:
    """A signal to exactly this process: looked at again once its number cannot be given to another."""
    try:
        descriptor = open_pidfd(pid)
    except ProcessLookupError:
        return
    try:
        stat = read_stat(pid)
        if stat is not None and stat.start_ticks == start_ticks:
            send_signal(descriptor, pid, number)
    except (ProcessLookupError, PermissionError):
        return
    finally:
        if descriptor is not None:
            os.close(descriptor)
