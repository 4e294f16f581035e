"""A line that tells a waiting person what is going on, once something takes more than two seconds."""

from __future__ import annotations

import signal
import sys
from types import FrameType, TracebackType
from typing import Self

PATIENCE_SECONDS = 2.0


class Progress:
    """Says what is going on, on standard error and only to a terminal; silent for whatever is quick.

    By an interval timer and not by a thread: the probes are forked, and a fork of a process with threads is unsafe.
    """

    def __init__(self) -> None:
        self._what = ""
        self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def clear(self) -> None:
        """Nothing is waited for any more, or somebody else writes to the terminal now."""
        self._cancel()
        if self._shown:
            self._shown = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def say(self, what: str) -> None:
        """``what`` begins now; it is shown if it is still going on after two seconds."""
        self._cancel()
        self._what = what
        if sys.stderr.isatty():
            signal.signal(signal.SIGALRM, self._show)
            signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS)

    def _show(self, number: int, frame: FrameType | None) -> None:
        self._shown = True
        sys.stderr.write(f"\r\x1b[K... {self._what}")
        sys.stderr.flush()

    def _cancel(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
