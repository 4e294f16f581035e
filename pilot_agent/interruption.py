"""What a stop signal, or the guardian's death, means for the pilot."""

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
