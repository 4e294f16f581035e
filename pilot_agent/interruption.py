"""What a stop signal, the guardian's death, a failing disk, or a bug means for the pilot."""

from __future__ import annotations

import errno
import os

from pilot_agent.interpreter import own_path
from pilot_agent.lifecycle.signals import Alarm
from pilot_agent.model import Failure, FailureKind

FULL = (errno.ENOSPC, errno.EDQUOT)
DISK_ERRORS = (*FULL, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTCONN)
FREE_SPACE = "free space in the scratch directory; the site must act"


def preempted(alarm: Alarm) -> Failure:
    """The failure that says why ``alarm`` ended the waiting."""
    reason = alarm.reason()
    if isinstance(reason, int):
        message = f"signal {reason} told the pilot to end"
        return Failure(FailureKind.PREEMPTED, f"signal.{reason}", message, signal=reason, retry=True)
    return Failure(
        FailureKind.PREEMPTED, "guardian.gone", "the guardian is gone; the pilot undid everything", retry=True
    )


def unwritten(error: OSError, stage: str) -> Failure:
    """The failure for a workspace, or another place, that could not be used in or after ``stage``."""
    place = error.filename if isinstance(error.filename, str) else "the workspace"
    message = f"{place} cannot be used: {error.strerror}"
    if error.errno in FULL:
        return Failure(FailureKind.NODE_RESOURCE, "disk.full", message, FREE_SPACE, stage=stage, retry=True)
    if error.errno == errno.ENOENT:
        hint = "somebody removed the pilot's workspace while it ran; the site must find out who"
        return Failure(FailureKind.NODE_RESOURCE, "workspace.gone", message, hint, stage=stage, retry=True)
    hint = "the scratch directory must stay writable; the site must act"
    return Failure(FailureKind.NODE_RESOURCE, "workspace.write", message, hint, stage=stage, retry=True)


def bug(error: BaseException) -> Failure:
    """The failure for an exception that nobody foresaw, with the place it came from.

    A disk that fails is no bug, nor is a payload that was removed while it ran: what is imported late is missing then.
    """
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return unwritten(error, "")
    if isinstance(error, FileNotFoundError | ImportError) and not os.path.exists(own_path()):
        return unwritten(FileNotFoundError(errno.ENOENT, f"the pilot's own file {own_path()} is gone"), "")
    import traceback  # late: it loads the compiler's tables, and bugs are rare

    place = " ".join("".join(traceback.format_exception(error)[-2:]).split())[:600]
    message = f"a bug: {type(error).__name__}: {error} ({place})"
    return Failure(FailureKind.INTERNAL, "internal.bug", message, "report it with events.jsonl to the developers")
