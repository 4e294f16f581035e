"""A line that tells a waiting person what is going on, once something takes more than two seconds."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Self

PATIENCE_SECONDS = 2.0


class Progress:
    """Says what is going on, on standard error and only to a terminal; silent for whatever is quick."""

    def __init__(self) -> None:
        self._what = ""
        self._shown = False
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cancel()
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def say(self, what: str) -> None:
        """``what`` begins now; it is shown if it is still going on after two seconds."""
        self._cancel()
        self._what = what
        if sys.stderr.isatty():
            self._timer = threading.Timer(PATIENCE_SECONDS, self._show)
            self._timer.daemon = True
            self._timer.start()

    def _show(self) -> None:
        self._shown = True
        sys.stderr.write(f"\r\x1b[K... {self._what}")
        sys.stderr.flush()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
