"""What setups of a dead pilot left to undo, undone by this pilot's own teardowns.

A job that ran without a container has the pilot's account: it may have written the journal of a dead pilot, or all of
its workspace. So nothing of what stands there is run. It only says which setups were begun; what undoes one is what
this pilot's own configuration and plugins declare under the same name, with their own program, environment and
directory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.journal import CommandEntry, Journal, read_journal
from pilot_agent.lifecycle.removal import NotOurs, remove_tree
from pilot_agent.lifecycle.spawn import run_short
from pilot_agent.workspace import WORKSPACE_PREFIX, Workspace

KEEP_SECONDS = 7 * 86400.0
"""How long a workspace waits for a pilot that declares the setups that it names."""
RESERVE_SECONDS = 2.0
"""Of the time for one pilot: what is left for removing its files."""
NAME_CHARACTERS = 200

Prepared = tuple[Sequence[str], Mapping[str, str], str]
"""A command line, the environment in which it is started, and its directory, which is removed afterwards."""


@dataclass(frozen=True, slots=True)
class OwnTeardown:
    """How this pilot undoes one of its setups: ``prepare`` makes the command for the pilot with this identifier, and
    raises ``OSError`` or ``PilotError``; ``refusal`` says why it cannot be run now, or is empty."""

    seconds: float
    prepare: Callable[[str], Prepared]
    refusal: str = ""


Teardowns = Mapping[str, OwnTeardown]
"""By the label in the journal."""


def undo_setups(workspace: Workspace, own: Teardowns, budget: Budget) -> tuple[list[str], list[dict[str, Any]]]:
    """Run this pilot's teardown of each setup that the dead pilot's journal names, the last setup's first; what ran,
    with its end, and what is left over. Each is begun once, whatever comes of it."""
    by_label: dict[str, list[CommandEntry]] = {}
    for entry in reversed(read_journal(workspace.journal).commands):
        by_label.setdefault(entry.label, []).append(entry)
    ran, leftovers = [], []
    for label, entries in by_label.items():
        teardown = own.get(label)
        cause = "this pilot has no such setup" if teardown is None else teardown.refusal
        seconds = budget.left() - RESERVE_SECONDS
        if not cause and seconds <= 0:
            cause = "the time for it was used up"
        if cause or teardown is None:
            leftovers.append({"kind": "teardown", "name": label[:NAME_CHARACTERS], "cause": cause})
            if teardown is not None and teardown.refusal:  # no later pilot can do it
                _closed(workspace, entries)
            continue
        if _closed(workspace, entries):
            end = _run(teardown, _pilot_id(workspace), min(seconds, teardown.seconds))
            ran.append(f"{label}: {end}")
    return ran, leftovers


def waiting(workspace: Workspace) -> bool:
    """Whether setups of the dead pilot are still to be undone, by a later pilot that knows them."""
    try:
        written = os.lstat(workspace.lock).st_mtime
    except OSError:
        return False
    return abs(time.time() - written) < KEEP_SECONDS and bool(read_journal(workspace.journal).commands)


def keep_what_is_left_to_do(workspace: Workspace, budget: Budget) -> list[dict[str, Any]]:
    """Remove the secrets of a dead pilot whose workspace waits for a later one; what could not be removed."""
    keep = [os.path.basename(path) for path in (workspace.lock, workspace.journal, workspace.adopted)]
    try:
        return remove_tree(workspace.private, budget, prefix=os.path.basename(workspace.private), keep=keep)
    except NotOurs as refusal:
        return [{"kind": "path", "path": workspace.private, "cause": str(refusal)}]


def _run(teardown: OwnTeardown, pilot_id: str, seconds: float) -> str:
    from pilot_agent.model import PilotError

    try:
        argv, environment, directory = teardown.prepare(pilot_id)
    except OSError as error:
        return f"not run: {error.strerror}"
    except PilotError as error:
        return f"not run: {error.failure.message}"
    code = run_short(argv, environment, seconds, directory=directory)
    _remove(directory)
    return "ok" if code == 0 else f"exited {code}" if code is not None else f"did not end in {seconds:g} s"


def _remove(directory: str) -> None:
    try:
        remove_tree(directory, Budget(RESERVE_SECONDS), prefix=os.path.basename(directory))
    except NotOurs:  # it is in this pilot's workspace, which goes in the end
        return


def _closed(workspace: Workspace, entries: list[CommandEntry]) -> bool:
    """Whether it is noted that these are being undone: nobody can know how much of it a second run would find."""
    try:
        journal = Journal(workspace.journal)
        for entry in entries:
            journal.close(entry.number)
    except OSError:
        return False
    return True


def _pilot_id(workspace: Workspace) -> str:
    return os.path.basename(workspace.root).removeprefix(WORKSPACE_PREFIX)
