"""The ad channel: every attribute that changes while the pilot runs goes through one FIFO to one startd cron job."""

from __future__ import annotations

import os
import select
import time

from pilot_agent.startd.classad import LiteralError, attribute_name, literal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from pilot_agent.lifecycle.loop import Loop

TIME_ATTRIBUTE = "PilotAdTime"
"""Seconds since the epoch of the last message; START closes when it is too old."""
ACCEPTING_ATTRIBUTE = "PilotAccepting"
END_OF_AD = "-\n"
END_OF_AD_NOW = "- update:true\n"
"""Makes the startd report at once what it has to report: at its start the slots. Of a slot that was reported already
the collector hears with the next report (seen with HTCondor 23.9), which ``sent`` may ask for."""
SHORTEST_SECONDS = 1.0
FIRST_MESSAGES = 2
RETRY_SECONDS = 1.0
FIRST_RETRY_SECONDS = 0.03
STARTING_SECONDS = 5.0
AFTER_SECOND_SECONDS = 0.012
"""How far time(2) may lag behind the clock: one tick, which is 10 ms where the kernel has the fewest."""


class AdChannel:
    """Sends the whole set of attributes when one changed (at most once a second) and every ``period_seconds``.

    The reader is a program that the startd runs: it comes late, may die, and is started again. ``complain`` is told
    of a value that no ClassAd can hold, ``sent(state)`` when the reader got a change after its first message.
    """

    __slots__ = (
        "_attributes",
        "_complain",
        "_created",
        "_due",
        "_fd",
        "_first_messages",
        "_loop",
        "_news",
        "_path",
        "_period",
        "_rest",
        "_sent",
        "_told",
        "_urgent",
        "ever_read",
    )  # fmt: skip

    def __init__(
        self,
        loop: Loop,
        path: str,
        period_seconds: float,
        attributes: Mapping[str, Any],
        complain: Callable[[str], None],
        sent: Callable[[bool], None] = lambda state: None,
    ) -> None:
        self._loop = loop
        self._path = path
        self._period = period_seconds
        self._complain = complain
        self._told = sent
        self._attributes: dict[str, str] = {}
        self._fd: int | None = None
        self._rest = b""
        self._sent = 0.0
        self._due = 0.0
        self._created = time.monotonic()
        self._first_messages = FIRST_MESSAGES
        self._urgent = False
        """Whether the startd shall report with the next message what it has to report."""
        self._news: bool | None = None
        """Whether what changed since the last message was a state; None when nothing did."""
        self.ever_read = False
        """True once a reader was there: the startd runs."""
        self.update({ACCEPTING_ATTRIBUTE: True, **attributes})

    def note(self, attributes: Mapping[str, Any]) -> None:
        """Set attributes that are no reason to send anything: they go with the next message."""
        self._set(attributes)

    def update(self, attributes: Mapping[str, Any], *, state: bool = True) -> None:
        """Set attributes; None makes one undefined. Sends soon if anything changed. A ``state`` decides about jobs and
        goes to the collector soon; a value can wait there."""
        if self._set(attributes):
            self._urgent = self._urgent or state
            self._news = bool(self._news) or state
            self._send_by(max(time.monotonic(), self._sent + SHORTEST_SECONDS))

    def _set(self, attributes: Mapping[str, Any]) -> bool:
        """Keep them for the next message; whether any is another than before."""
        changed = False
        for name, value in attributes.items():
            try:
                key, text = attribute_name(name), literal(value)
            except LiteralError as error:
                self._complain(f"{name}: {error}")
                continue
            changed = changed or self._attributes.get(key) != text
            self._attributes[key] = text
        return changed

    def renew(self) -> None:
        """Send everything soon, although nothing changed: the ad may look old."""
        self._send_by(max(time.monotonic(), self._sent + SHORTEST_SECONDS))

    def close(self) -> None:
        """Let the reader go."""
        if self._fd is not None:
            self._loop.forget(self._fd)
            os.close(self._fd)
            self._fd = None

    def _send_by(self, moment: float) -> None:
        """Make sure that something is sent at ``moment`` (monotonic) or before."""
        if not self._due or moment < self._due:
            self._due = moment
            self._loop.call_later(moment - time.monotonic(), self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        if not self._due or now < self._due:
            return  # an earlier timer has done it
        self._due = 0.0
        if self._fd is None and not self._open():
            self._send_by(now + (FIRST_RETRY_SECONDS if self._starting(now) else RETRY_SECONDS))
            return
        # An ad that the reader has not taken yet is finished first; the new one waits for the next turn.
        news = None
        if not self._rest:
            self._rest = self._message()
            self._sent = now
            news, self._news = self._news, None
        self._flush()
        if news is not None and self._fd is not None and self._first_messages < FIRST_MESSAGES:
            self._told(news)
        if self._first_messages and self._fd is not None:
            # The startd reports its slots when it first wakes after a whole second of the clock; without this it
            # sleeps until the next one.
            self._first_messages -= 1
            self._send_by(now + AFTER_SECOND_SECONDS + 1 - time.time() % 1)
            return
        self._send_by(now + (RETRY_SECONDS if self._rest or self._fd is None else self._period))

    def _starting(self, now: float) -> bool:
        """True while the startd can be expected any moment."""
        return not self.ever_read and now - self._created < STARTING_SECONDS

    def _open(self) -> bool:
        try:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:  # ENXIO: no reader yet; ENOENT: the workspace is gone, which others notice
            return False
        self.ever_read = True
        self._urgent = True
        self._loop.watch(self._fd, self._lost, select.POLLERR)
        return True

    def _lost(self) -> None:
        """The reader died: the next one gets a whole ad."""
        self.close()
        self._rest = b""
        self._news = True
        self._send_by(time.monotonic() + RETRY_SECONDS)

    def _flush(self) -> None:
        while self._rest and self._fd is not None:
            try:
                self._rest = self._rest[os.write(self._fd, self._rest) :]
            except BlockingIOError:
                return
            except OSError:  # EPIPE
                self._lost()

    def _message(self) -> bytes:
        lines = [f"{name} = {text}\n" for name, text in self._attributes.items()]
        lines.append(f"{TIME_ATTRIBUTE} = {int(time.time())}\n")
        end = END_OF_AD_NOW if self._urgent else END_OF_AD
        self._urgent = False
        return ("".join(lines) + end).encode()
