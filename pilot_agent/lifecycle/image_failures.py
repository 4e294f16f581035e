"""Images that could not be had: while their pause lasts, the ad says so and START is closed for jobs that want them.

The image hook gives such a job back, and the pool would send the same job to the same slot again with its next
negotiation. The hook writes ``[reference, seconds]``, one line of JSON, to a FIFO in HTCondor's private directory.
"""

from __future__ import annotations

import os
import time

from pilot_agent.light import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pilot_agent.events import EventLog
    from pilot_agent.lifecycle.channel import AdChannel
    from pilot_agent.lifecycle.loop import Loop

FAILING_IMAGES_ATTRIBUTE = "PilotFailingImages"
"""References separated by blanks."""
MOST_IMAGES = 16
LONGEST_REFERENCE = 2048
LONGEST_SECONDS = 3600
_READ_BYTES = 1 << 16


class ImageFailures:
    """Reads the FIFO at ``path`` until it is closed; where there is none, no image is fetched."""

    __slots__ = ("_channel", "_events", "_fd", "_loop", "_until")

    def __init__(self, path: str, loop: Loop, channel: AdChannel, events: EventLog) -> None:
        self._loop = loop
        self._channel = channel
        self._events = events
        self._until: dict[str, float] = {}
        """Reference -> end of its pause (monotonic); the order is that of the failures."""
        self._fd: int | None = None
        try:
            # Also open for writing, so that it never counts as closed.
            self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return
        loop.watch(self._fd, self._read)

    def close(self) -> None:
        """Hear nothing more."""
        if self._fd is not None:
            self._loop.forget(self._fd)
            os.close(self._fd)
            self._fd = None

    def _read(self) -> None:
        if self._fd is None:
            return
        try:
            content = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        for line in content.splitlines():
            try:
                reference, seconds = loads(line)
                self._failed(reference, min(float(seconds), LONGEST_SECONDS))
            except (ValueError, TypeError, OverflowError):  # written by something else than the hook
                continue
        self._tell()

    def _failed(self, reference: str, seconds: float) -> None:
        if not isinstance(reference, str) or not 0 < len(reference) <= LONGEST_REFERENCE:
            return
        if " " in reference or not reference.isprintable() or not seconds > 0:
            return
        self._until.pop(reference, None)
        while len(self._until) >= MOST_IMAGES:
            del self._until[next(iter(self._until))]
        self._until[reference] = time.monotonic() + seconds
        self._events.write("image.failing", image=reference, seconds=seconds)
        self._loop.call_later(seconds, self._tell)

    def _tell(self) -> None:
        now = time.monotonic()
        self._until = {reference: end for reference, end in self._until.items() if end > now}
        self._channel.update({FAILING_IMAGES_ATTRIBUTE: " ".join(self._until) or None})
