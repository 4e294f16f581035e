"""Signals that end waiting: of the daemon, of its children and of its threads alike."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from types import FrameType, TracebackType
from typing import Self

from pilot_agent.process import Interrupted

STOPS = (signal.SIGTERM, signal.SIGINT)


class Wake:
    """While it is entered SIGTERM and SIGINT say ``stopping`` and SIGHUP says ``reloading``; a wait ends with either,
    but only the first ends what is under way. For the main thread."""

    def __init__(self) -> None:
        self.stopping = False
        self.reloading = False
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in (*STOPS, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        ends = self._read, self._write
        # A thread that ends later must not write into what gets these numbers next.
        self._read = self._write = -1
        for end in ends:
            os.close(end)

    def fileno(self) -> int:
        """Readable when something happened."""
        return self._read

    def must_end(self) -> bool:
        """Whether what is under way is to be left. Takes away what made the descriptor readable."""
        try:
            while os.read(self._read, 64):
                pass
        except BlockingIOError:
            pass
        return self.stopping

    def nudge(self) -> None:
        """End a wait; from any thread."""
        with contextlib.suppress(OSError):  # as when it is full: then it is readable already
            os.write(self._write, b"!")

    def wait(self, seconds: float) -> None:
        """Wait so long, or until a signal wants something. Raises ``Interrupted`` when it is to stop."""
        end = time.monotonic() + seconds
        while not self.reloading:
            if self.must_end():
                raise Interrupted
            left = end - time.monotonic()
            if left <= 0:
                return
            select.select([self._read], [], [], left)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self.reloading = True
        else:
            self.stopping = True
        self.nudge()
