"""Asking the factory for a newer token of the pool when half of the time of the present one is over.

Asking is a short-lived child. Whoever has nothing newer, or is away, is asked again, the later the more time is left.
"""

from __future__ import annotations

import os
import time

from pilot_agent.lifecycle.loop import Task
from pilot_agent.light import mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pilot_agent.events import EventLog
    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.lifecycle.plan import TokenPlan

TASK_SECONDS = 30.0
AGAIN_SHARE = 8
"""Of what is left, this part is waited before the next question."""
AGAIN_SECONDS = 900.0
"""And no longer than that."""
LOOK_SECONDS = 3600.0
"""The clock may be set, and a token may come from elsewhere: so long at most until the next thought."""
MESSAGE_LIMIT = 500


class TokenRenewal:
    """Asks in time, until the pilot ends. ``expires()`` tells when the present token ends, epoch seconds or None;
    ``answered`` is called with what a token that was found came to. ``took`` says whether the present token came by
    this way, and not from the file that the batch system delivered."""

    __slots__ = ("_answered", "_asking", "_due", "_events", "_expires", "_known", "_loop", "_plan", "_told", "_turn",
                 "took")  # fmt: skip

    def __init__(
        self,
        plan: TokenPlan,
        loop: Loop,
        events: EventLog,
        *,
        expires: Callable[[], float | None],
        answered: Callable[[int | None, bytes], None],
    ) -> None:
        self._plan = plan
        self._loop = loop
        self._events = events
        self._expires = expires
        self._answered = answered
        self._known: float | None = None
        self._due = 0.0
        self._told = ""
        self._turn = 0
        """Of the thought that is to come; one that was put off is none."""
        self._asking = False
        self.took = False
        if plan.renewal:
            self._think()

    def ask(self) -> None:
        """Ask now, whatever time is left."""
        if self._plan.renewal and not self._asking:
            self._asking = True
            Task(self._loop, self._plan.renewal, self._plan.environment, TASK_SECONDS, self._ended, both_outputs=False)

    def _think(self) -> None:
        """Ask if it is time, else wait until it is."""
        now, expires = time.time(), self._expires()
        if expires is None:
            self._wait(LOOK_SECONDS)
            return
        if expires != self._known:
            # Pilots that were submitted together must not ask together.
            self._known, self._due = expires, now + max(0.0, expires - now) * (0.4 + 0.2 * _random())
        if now < self._due:
            self._wait(self._due - now)
        else:
            self.ask()

    def _wait(self, seconds: float) -> None:
        self._turn += 1
        turn = self._turn
        self._loop.call_later(min(seconds, LOOK_SECONDS), lambda: self._think() if turn == self._turn else None)

    def _ended(self, code: int | None, output: bytes) -> None:
        self._asking = False
        answer = mapping(output)
        if code == 0 and answer.get("changed"):
            self._told, self.took = "", True
            self._answered(code, output)
        elif code != 0:
            self._tell(answer, code, output)
        left = max(0.0, (self._known or 0.0) - time.time())
        self._due = time.time() + max(self._plan.period_seconds, min(AGAIN_SECONDS, left / AGAIN_SHARE))
        self._think()

    def _tell(self, answer: dict[str, Any], code: int | None, output: bytes) -> None:
        said = str(answer.get("message") or f"the factory could not be asked for a newer token (exit code {code})")
        if said == self._told:  # the same again is no news
            return
        self._told = said
        if answer.get("code") in (None, "token.renewal"):
            self._events.write("token.renewal_failed", message=said[:MESSAGE_LIMIT])
        else:
            self._answered(code, output)


def _random() -> float:
    return os.urandom(1)[0] / 256
