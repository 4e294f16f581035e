"""Undo what a pilot made: its processes, what its setups did, its mounts, its files, in this order and within one
budget.

Whoever is left does it: the pipeline on a failure, the keeper at the end, the guardian at last. Doing it twice is
harmless.
"""

from __future__ import annotations

import os

from pilot_agent.events import EventLog
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.control_groups import give_back
from pilot_agent.lifecycle.journal import Journal, read_journal
from pilot_agent.lifecycle.lock import release
from pilot_agent.lifecycle.mounts import undo_recorded, unmount_all
from pilot_agent.lifecycle.node_list import strike
from pilot_agent.lifecycle.processes import kill_descendants, stop_process
from pilot_agent.lifecycle.removal import NotOurs, remove_tree
from pilot_agent.lifecycle.spawn import run_short
from pilot_agent.workspace import BEING_MADE, WORKSPACE_PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from pilot_agent.workspace import Workspace

UNMOUNT_SHARE = 0.25
"""Of the time that is left: what the mounts of clients that are still alive may take."""
REMOVAL_SHARE_SECONDS = 2.0
"""What stopping processes leaves for unmounting and removing."""


def finish(workspace: Workspace, budget_seconds: float, *, keep: Collection[str] = ()) -> list[dict[str, Any]]:
    """Undo everything that belongs to ``workspace``, except the names ``keep`` directly in it; what is left over.

    Each leftover says its ``kind`` (process, mount, path), which one it is, and its ``cause``. Kills every
    descendant of the calling process.
    """
    budget = Budget(budget_seconds)
    leftovers = stop_everything(workspace, budget)
    return leftovers + remove_workspace(workspace, budget, keep=keep)


def stop_everything(workspace: Workspace, budget: Budget) -> list[dict[str, Any]]:
    """Stop the journalled processes, newest first, kill every other descendant, run the setups' own teardown, the last
    setup's first, give the control group back, and unmount; what is left over."""
    _stop_journalled(workspace, budget)
    # Before the clients of these mounts are killed: one that is unmounted leaves its cache in order.
    undo_recorded(read_journal(workspace.journal).mounts, Budget(budget.left() * UNMOUNT_SHARE))
    leftovers = kill_descendants(Budget(max(1.0, budget.left() - REMOVAL_SHARE_SECONDS)))
    if run_commands(workspace, budget):
        leftovers = kill_descendants(Budget(max(1.0, budget.left() - REMOVAL_SHARE_SECONDS)))
    leftovers += undo_groups(workspace, budget)
    recorded = read_journal(workspace.journal).mounts
    return leftovers + unmount_all(workspace.root, recorded, budget)


def remove_workspace(workspace: Workspace, budget: Budget, *, keep: Collection[str] = ()) -> list[dict[str, Any]]:
    """Remove the workspace's content, and the workspace itself unless names are kept; what is left over.

    The lock goes last, and only when all else is gone: without it the next pilot could not tell whose the rest is.
    """
    private = os.path.basename(workspace.private)
    try:
        if keep:
            return remove_tree(workspace.root, budget, prefix=WORKSPACE_PREFIX, keep=keep)
        leftovers = remove_tree(workspace.root, budget, prefix=WORKSPACE_PREFIX, keep=(private,))
        if os.path.isdir(workspace.private) and not os.path.islink(workspace.private):
            leftovers += remove_tree(
                workspace.private, budget, prefix=private, keep=(os.path.basename(workspace.lock),)
            )
        if leftovers:
            return leftovers
        release()
        for root in (workspace.root, workspace.root + BEING_MADE):
            leftovers += remove_tree(root, budget, prefix=WORKSPACE_PREFIX)
    except NotOurs as refusal:
        return [{"kind": "path", "path": workspace.root, "cause": str(refusal)}]
    if not leftovers:
        strike(workspace.root)
    return leftovers


def _stop_journalled(workspace: Workspace, budget: Budget) -> None:
    open_processes = read_journal(workspace.journal).processes
    journal = Journal(workspace.journal)
    for entry in reversed(open_processes):
        if entry.identity is None:
            continue
        seconds = min(entry.stop_seconds, max(0.0, budget.left() - REMOVAL_SHARE_SECONDS))
        if stop_process(entry.identity, entry.stop_signal, seconds):
            _close(journal, entry.number)


def run_commands(workspace: Workspace, budget: Budget) -> bool:
    """Run the teardown commands that are still open; whether there was one. Each is begun once, whatever came of it:
    nobody can know how much of it a second run would find undone."""
    commands = read_journal(workspace.journal).commands
    journal = Journal(workspace.journal)
    for entry in reversed(commands):
        seconds = min(entry.seconds, budget.left() - REMOVAL_SHARE_SECONDS)
        _close(journal, entry.number)
        if seconds > 0:
            code = run_short(entry.argv, entry.environment, seconds, directory=entry.directory)
            status = "ok" if code == 0 else f"exited {code}" if code is not None else f"did not end in {seconds:g} s"
        else:
            status = "not run: the time for the end was used up"
        EventLog(workspace.events, entry.started).write("teardown.ended", name=entry.label, status=status)
    return bool(commands)


def undo_groups(workspace: Workspace, budget: Budget, spared: Collection[int] = ()) -> list[dict[str, Any]]:
    """Give the batch system's control group back as it was; what is left over."""
    time_for_it = Budget(max(0.0, budget.left() - REMOVAL_SHARE_SECONDS))
    closed, leftovers = give_back(workspace, read_journal(workspace.journal).groups, time_for_it, spared)
    journal = Journal(workspace.journal)
    for number in closed:
        if budget.left() > 0:
            _close(journal, number)
    return leftovers


def _close(journal: Journal, number: int) -> None:
    try:
        journal.close(number)
    except OSError:  # disk full or workspace gone: the entry then names a process that no longer exists
        return
