"""Say what is going on when something takes a while."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

QUIET_SECONDS = 2.0
REPEAT_SECONDS = 15.0


@contextmanager
def step(message: str, stream: TextIO | None = None) -> Iterator[None]:
    """Run a block; if it takes over 2 s, write a line then, one every 15 s, and one when it ends."""
    out = stream if stream is not None else sys.__stderr__
    done = threading.Event()
    started = time.monotonic()

    def watch() -> None:
        wait = QUIET_SECONDS
        while not done.wait(wait):
            _write(out, f"[testbed] {message} ... {time.monotonic() - started:.0f} s")
            wait = REPEAT_SECONDS

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    ended = "failed after"
    try:
        yield
        ended = "done in"
    finally:
        done.set()
        watcher.join()
        seconds = time.monotonic() - started
        if seconds > QUIET_SECONDS:
            _write(out, f"[testbed] {message}: {ended} {seconds:.1f} s")


def _write(out: TextIO | None, line: str) -> None:
    if out is not None:
        print(line, file=out, flush=True)
