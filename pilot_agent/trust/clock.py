"""What is known of the time where the node's own clock may be wrong: enough to say so, never enough to believe more.

A server's Date is not signed. It explains why something looks expired; what looks expired stays refused.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from pilot_agent.light import loads
from pilot_agent.model import Failure, FailureKind

MOST_SECONDS = 300.0
"""A clock that is wrong by more says nothing about what has expired."""
_HINT = "the site sets the clock of this node, and runs a time service on it"


class ServerTime:
    """What one mirror's answers tell: how far the node's clock is from its own, and when what it publishes expires."""

    def __init__(self) -> None:
        self._offset: float | None = None
        self._until: float | None = None

    def hear(self, offset_seconds: float | None) -> None:
        """The node's clock minus the server's, of one answer; None where it told nothing."""
        if offset_seconds is not None:
            self._offset = offset_seconds

    def read(self, metadata: bytes) -> None:
        """Take note of when this file of metadata expires, whatever it is worth."""
        try:
            until = moment_of(loads(metadata)["signed"]["expires"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return
        self._until = until if self._until is None else min(self._until, until)

    def excuse(self, mirror: str) -> Failure | None:
        """The failure that it is in truth when something looks expired: by the server's clock nothing is."""
        if self._offset is None or self._until is None or self._offset <= MOST_SECONDS:
            return None
        if self._until <= time.time() - self._offset:
            return None
        message = f"what {mirror} publishes looks expired, and the clock of this node is {self._offset:.0f} s ahead of "
        return _skew(message + "that server's, by which it is not")


def behind(made: float | None) -> Failure | None:
    """The failure of a node whose clock is before the moment at which its pilot's bundle was made."""
    if made is None or made - time.time() <= MOST_SECONDS:
        return None
    late = made - time.time()
    told = datetime.fromtimestamp(made, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return _skew(f"the clock of this node is behind by {late:.0f} s at least: this pilot's bundle was made at {told}")


def moment_of(text: str) -> float:
    """Seconds since 1970 of a moment such as 2026-11-22T05:00:00Z. Raises ``ValueError``."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _skew(message: str) -> Failure:
    return Failure(FailureKind.NETWORK, "clock.skew", message, _HINT, retry=True)
