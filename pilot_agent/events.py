"""The event log: one JSON line per event as it happens, so that a killed pilot's story is on disk.

Written by the pipeline, the keeper and the guardian in turn; a line is one ``write`` to a descriptor in append
mode, so that lines of different processes never mix.
"""

from __future__ import annotations

import os
import time

from pilot_agent.light import dumps


class EventLog:
    """Appends events to ``path``; times are seconds since ``started`` (``time.time()`` of the pilot's start)."""

    def __init__(self, path: str, started: float) -> None:
        self.path = path
        self.started = started

    def seconds(self) -> float:
        """Seconds since the pilot's start."""
        return round(time.time() - self.started, 4)

    def write(self, event: str, /, **data: object) -> None:
        """Append one event. An event that cannot be written (disk full, directory gone) must not end a pilot:
        it goes to standard error instead."""
        record = {"seconds": self.seconds(), "event": event, **data}
        line = dumps(record, default=str).encode() + b"\n"
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            try:
                os.write(2, f"event not recorded ({error.strerror}): ".encode() + line)
            except OSError:
                return
