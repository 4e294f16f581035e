"""One pilot, one workspace: a lock held from the first stage to the end, over every exec.

The kernel gives it back when the last process that holds it ends, so a killed pilot leaves no stale lock.
"""

from __future__ import annotations

import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pilot_agent.workspace import Workspace

LOCK_FD_VARIABLE = "PILOT_AGENT_LOCK_FD"


def lock(workspace: Workspace) -> None:
    """Hold the workspace for this process and what it becomes. Raises ``PilotError`` (workspace.in_use,
    state.unreadable)."""
    if os.environ.get(LOCK_FD_VARIABLE):
        keep_from_children()
        return
    from pilot_agent.model import Failure, FailureKind, PilotError

    if not os.path.isdir(workspace.private):
        message = f"no pilot can be resumed from {workspace.root}: it is no pilot's workspace"
        raise PilotError(Failure(FailureKind.USAGE, "state.unreadable", message, "name the workspace of a pilot"))
    try:
        descriptor = os.open(workspace.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        message = f"the workspace {workspace.root} cannot be taken: {error.strerror}"
        hint = "its pilot is alive; wait for its end, or name the workspace of a pilot that was cut"
        raise PilotError(Failure(FailureKind.USAGE, "workspace.in_use", message, hint)) from error
    os.environ[LOCK_FD_VARIABLE] = str(descriptor)


def keep_from_children() -> None:
    """After an exec: what this process starts must not hold the lock, or it would outlive the pilot."""
    descriptor = os.environ.get(LOCK_FD_VARIABLE)
    if descriptor:
        os.set_inheritable(int(descriptor), False)


def keep_across_exec() -> None:
    """Before an exec: the next process image holds the lock too."""
    descriptor = os.environ.get(LOCK_FD_VARIABLE)
    if descriptor:
        os.set_inheritable(int(descriptor), True)
