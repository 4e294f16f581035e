"""One pilot, one workspace: a lock held from the moment the workspace is there to the end, over every exec.

Pipeline (or keeper) and guardian each hold it shared, so it is free once both are gone: the kernel gives it back when
the last process that holds it ends, so a killed pilot leaves no stale lock. Whoever takes a workspace up, to go on with
it or to sweep it, needs it alone. The file says whose it is, see ``owner``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pilot_agent.workspace import Workspace

LOCK_FD_VARIABLE = "PILOT_AGENT_LOCK_FD"
MORE_FDS_VARIABLE = "PILOT_AGENT_LOCK_FDS"
"""The locks of services that this pilot runs for all pilots of the node."""
WITHOUT_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""What file systems answer that were mounted without locks (Lustre, some NFS)."""
PATIENCE_SECONDS = 2.0
PAUSE_SECONDS = 0.01


def lock(workspace: Workspace) -> None:
    """Hold the workspace for this process and what it becomes. Raises ``PilotError`` (workspace.in_use,
    state.unreadable)."""
    if os.environ.get(LOCK_FD_VARIABLE):
        keep_from_children()
        return
    from pilot_agent.lifecycle.owner import own_record
    from pilot_agent.light import dumps
    from pilot_agent.model import Failure, FailureKind, PilotError

    if not os.path.isdir(workspace.private):
        message = f"no pilot can be resumed from {workspace.root}: it is no pilot's workspace"
        raise PilotError(Failure(FailureKind.USAGE, "state.unreadable", message, "name the workspace of a pilot"))
    try:
        descriptor = os.open(workspace.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        locked = _take_soon(descriptor, fcntl.LOCK_EX)
        content = dumps(own_record(locked=locked)).encode()
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))
        os.fdatasync(descriptor)
        _take_soon(descriptor, fcntl.LOCK_SH)
    except OSError as error:
        message = f"the workspace {workspace.root} cannot be taken: {error.strerror}"
        hint = "its pilot is alive; wait for its end, or name the workspace of a pilot that was cut"
        raise PilotError(Failure(FailureKind.USAGE, "workspace.in_use", message, hint)) from error
    os.environ[LOCK_FD_VARIABLE] = str(descriptor)


def _take_soon(descriptor: int, kind: int) -> bool:
    """As ``take``, but with patience: another pilot's sweep holds it for the moment in which it looks whose it is."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return take(descriptor, kind)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
            time.sleep(PAUSE_SECONDS)


def take(descriptor: int, kind: int) -> bool:
    """Lock an open file without waiting; False where its file system has no locks. Raises ``OSError``, and
    ``BlockingIOError`` when another process holds it."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in WITHOUT_LOCKS:
            return False
        raise
    return True


def hold_beside(workspace: Workspace) -> bool:
    """For the guardian: hold the workspace beside the process that took it; False when it cannot (yet)."""
    if os.environ.get(LOCK_FD_VARIABLE):
        return True
    try:
        descriptor = os.open(workspace.lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        take(descriptor, fcntl.LOCK_SH)
    except OSError:
        os.close(descriptor)
        return False
    os.environ[LOCK_FD_VARIABLE] = str(descriptor)
    return True


def release() -> None:
    """Hold the workspace no longer: a network file system keeps an open file's place when it is removed."""
    descriptor = os.environ.pop(LOCK_FD_VARIABLE, "")
    if descriptor:
        os.close(int(descriptor))


def keep_too(descriptor: int) -> None:
    """Hold this lock too in what this process becomes."""
    os.environ[MORE_FDS_VARIABLE] = " ".join((*os.environ.get(MORE_FDS_VARIABLE, "").split(), str(descriptor)))


def keep_no_longer(descriptor: int) -> None:
    """Before such a lock is given back."""
    others = [word for word in os.environ.pop(MORE_FDS_VARIABLE, "").split() if word != str(descriptor)]
    if others:
        os.environ[MORE_FDS_VARIABLE] = " ".join(others)


def keep_from_children() -> None:
    """After an exec: what this process starts must not hold the locks, or they would outlive the pilot."""
    for descriptor in _held():
        os.set_inheritable(descriptor, False)


def keep_across_exec() -> None:
    """Before an exec: the next process image holds the locks too."""
    for descriptor in _held():
        os.set_inheritable(descriptor, True)


def _held() -> list[int]:
    words = f"{os.environ.get(LOCK_FD_VARIABLE, '')} {os.environ.get(MORE_FDS_VARIABLE, '')}".split()
    return [int(word) for word in words]
