"""One line that tells what is going on: rewritten on a terminal, written anew elsewhere, and only when it matters."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Self, TextIO

PATIENCE_SECONDS = 2.0
TERMINAL_PERIOD_SECONDS = 0.5
PLAIN_PERIOD_SECONDS = 10.0


class Progress:
    """Shows what was said last, once it has gone on for two seconds. Use as a context manager."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._terminal = self._stream.isatty()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
        self._what = ""
        self._detail = ""
        self._since = 0.0
        self._written = 0.0
        self._on_screen = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._clear()

    def say(self, what: str) -> None:
        """Something new begins now."""
        with self._lock:
            self._what, self._detail, self._since = what, "", time.monotonic()
            self._written = 0.0

    def detail(self, text: str) -> None:
        """How far it is."""
        with self._lock:
            self._detail = text

    def _watch(self) -> None:
        while not self._ended.wait(TERMINAL_PERIOD_SECONDS):
            with self._lock:
                self._show(time.monotonic())

    def _show(self, now: float) -> None:
        going_on = now - self._since
        if not self._what or going_on < PATIENCE_SECONDS:
            return
        if not self._terminal and self._written and now - self._written < PLAIN_PERIOD_SECONDS:
            return
        detail = f": {self._detail}" if self._detail else ""
        line = f"... {self._what}{detail} ({going_on:.0f} s)"
        self._stream.write(f"\r\x1b[K{line[:118]}" if self._terminal else line + "\n")
        self._stream.flush()
        self._written = now
        self._on_screen = self._terminal

    def _clear(self) -> None:
        if self._on_screen:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
