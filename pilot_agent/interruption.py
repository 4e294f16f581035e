"""What a stop signal, the guardian's death, or a bug means for the pilot."""

from __future__ import annotations

from pilot_agent.lifecycle.signals import Alarm
from pilot_agent.model import Failure, FailureKind


def preempted(alarm: Alarm) -> Failure:
    """The failure that says why ``alarm`` ended the waiting."""
    reason = alarm.reason()
    if isinstance(reason, int):
        message = f"signal {reason} told the pilot to end"
        return Failure(FailureKind.PREEMPTED, f"signal.{reason}", message, signal=reason, retry=True)
    return Failure(
        FailureKind.PREEMPTED, "guardian.gone", "the guardian is gone; the pilot undid everything", retry=True
    )


def bug(error: BaseException) -> Failure:
    """The failure for an exception that nobody foresaw, with the place it came from."""
    import traceback  # late: it loads the compiler's tables, and bugs are rare

    place = " ".join("".join(traceback.format_exception(error)[-2:]).split())[:600]
    message = f"a bug: {type(error).__name__}: {error} ({place})"
    return Failure(FailureKind.INTERNAL, "internal.bug", message, "report it with events.jsonl to the developers")
