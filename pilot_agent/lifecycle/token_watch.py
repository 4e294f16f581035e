"""The pool's token while the pilot runs: replaced when a fresh one was delivered, and its end foretold.

Looking is a short-lived child now and then: the file may lie on a file system that does not answer. Whether a new token
is any good is found out by another, as what it takes to read one would be a fifth of this process.
"""

from __future__ import annotations

import os
import time

from pilot_agent.lifecycle.loop import Task
from pilot_agent.lifecycle.question import Question
from pilot_agent.lifecycle.spawn import SEARCH_PATH, find_program
from pilot_agent.lifecycle.token_renewal import TokenRenewal
from pilot_agent.light import mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot_agent.events import EventLog
    from pilot_agent.lifecycle.channel import AdChannel
    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.lifecycle.plan import TokenPlan

EXPIRES_ATTRIBUTE = "PilotTokenExpires"
"""Seconds since the epoch; undefined for a token that never expires."""
USUAL_ATTRIBUTE = "GLIDEIN_Expire"
"""The same, by the name that users' expressions know."""
EXPIRING_ATTRIBUTE = "PilotTokenExpiring"
"""True when the token's end is near, or past."""
TASK_SECONDS = 20.0
ANSWER_SECONDS = 20.0
MESSAGE_LIMIT = 500


class TokenWatch:
    """Looks every period, and whenever ``check`` is called; ``changed()`` after a new token was installed."""

    __slots__ = ("_again", "_changed", "_channel", "_events", "_loop", "_plan", "_question", "_renewal", "_running",
                 "_seen", "_since", "_wanted", "_warned", "expires")  # fmt: skip

    def __init__(
        self, plan: TokenPlan, loop: Loop, channel: AdChannel, events: EventLog, changed: Callable[[], None]
    ) -> None:
        self._plan = plan
        self._loop = loop
        self._channel = channel
        self._events = events
        self._changed = changed
        self._running = False
        self._again = False
        self._warned = ""
        self.expires = plan.expires
        self._wanted = False
        """Whether the file shall be read, changed or not."""
        self._seen = b""
        """What was last said about the file; nothing before the first answer."""
        self._since = _moment(plan.installed)
        self._question = Question(
            loop,
            # Inode, size, and when content and inode changed, seconds: stat(1).
            [find_program("stat") or "/usr/bin/stat", "-L", "-c", "%i %s %.9Y %.9Z", plan.source],
            {"PATH": SEARCH_PATH, "LC_ALL": "C"},
            ANSWER_SECONDS,
            answered=lambda code, output: self._answered(output if code == 0 else b""),
            silent=self._is_silent,
        )
        self._advertise()
        self._look()
        self._renewal = TokenRenewal(plan, loop, events, expires=lambda: self.expires, answered=self._judge)

    def check(self) -> None:
        """Read the token's file now, whether it changed or not; where the factory gave a newer one since, ask it."""
        self._wanted = True
        self._question.ask()

    def _read(self) -> None:
        if self._running:
            self._again = True
            return
        self._running = True
        self._again = self._wanted = False
        Task(self._loop, self._plan.command, self._plan.environment, TASK_SECONDS, self._checked, both_outputs=False)

    def _look(self) -> None:
        self._question.ask()
        self._warn()
        self._loop.call_later(self._plan.period_seconds, self._look)

    def _answered(self, found: bytes) -> None:
        """A file that is gone was cleaned up by the batch system: what the pilot has is its own copy."""
        changed = found not in (b"", self._seen)
        if not self._seen and _changed_at(found) <= self._since:
            changed = False  # it is the one that was installed
        if changed and self._running and not self._wanted:
            return  # the next look sees it again
        self._seen = found or self._seen
        if self._wanted and not changed and self._renewal.took:
            # The file is older than what the pilot has.
            self._wanted = False
            self._renewal.ask()
        elif changed or self._wanted:
            self._read()

    def _is_silent(self) -> None:
        self._events.write("token.silent", path=self._plan.source, seconds_waited=ANSWER_SECONDS)

    def _checked(self, code: int | None, output: bytes) -> None:
        self._running = False
        self._judge(code, output)
        if self._again:
            self._read()

    def _judge(self, code: int | None, output: bytes) -> None:
        """Another file was looked at: the answer tells what became of it."""
        answer = mapping(output)
        if code == 0 and "expires" in answer:
            self.expires = answer["expires"]
            self._warned = ""
            event = "token.replaced" if answer.get("changed") else "token.unchanged"
            self._events.write(event, expires=self.expires, subject=answer.get("subject"))
            self._advertise()
            self._warn()
            self._changed()
        else:
            message = str(answer.get("message") or f"the new token could not be looked at (exit code {code})")
            self._events.write("token.refused", code=answer.get("code"), message=message[:MESSAGE_LIMIT])

    def _warn(self) -> None:
        """Tell once that the end is near, and once that it has come; HTCondor's open sessions outlive it for a while,
        so jobs may go on."""
        if self.expires is None:
            return
        left = self.expires - time.time()
        state = "token.expired" if left <= 0 else "token.expiring" if left <= self._plan.warning_seconds else ""
        if state and state != self._warned:
            self._warned = state
            hint = f"replace {self._plan.source} by a fresh token of the pool; the pilot takes it by itself"
            self._events.write(state, expires=self.expires, left_seconds=round(left), hint=hint)
            self._advertise()

    def _advertise(self) -> None:
        expires = None if self.expires is None else int(self.expires)
        self._channel.update(
            {EXPIRES_ATTRIBUTE: expires, USUAL_ATTRIBUTE: expires, EXPIRING_ATTRIBUTE: bool(self._warned)}
        )


def _changed_at(found: bytes) -> float:
    """When the file's inode was changed last; 0 where that was not said."""
    try:
        return float(found.split()[-1])
    except (IndexError, ValueError):
        return 0.0


def _moment(installed: str) -> float:
    """When the pilot's own copy was made; now where there is none."""
    try:
        return os.stat(installed).st_mtime
    except OSError:
        return time.time()
