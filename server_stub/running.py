"""What a running server leaves on disk for whoever asks how it goes: its process, and when it last did what.

The file is beside the server's state, so nobody needs the network or a certificate to read it.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, replace

from pilot_agent.codec import CodecError, from_json
from pilot_agent.files import read_bounded, write_json

NAME = "running.json"


@dataclass(frozen=True, slots=True)
class Running:
    """Times are epoch seconds. ``answered`` is when the batch system, or for a frontend its pool, last answered;
    ``problem`` what it said instead since."""

    pid: int
    started: float
    version: str
    answered: float | None = None
    problem: str = ""
    reloaded: float | None = None

    @property
    def alive(self) -> bool:
        """Whether a process of that number is there."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


class RunningFile:
    """Keeps the file true while the server runs; takes it away at the end. What cannot be written is left out: a full
    disk is told by other means."""

    def __init__(self, state: str, version: str, now: float | None = None) -> None:
        self._path = os.path.join(state, NAME)
        self._told = Running(os.getpid(), time.time() if now is None else now, version)

    def tell(self, **changes: object) -> None:
        """Write what changed."""
        self._told = replace(self._told, **changes)  # type: ignore[arg-type]
        try:
            write_json(self._path, asdict(self._told))
        except OSError:
            return

    def close(self) -> None:
        """The server ends."""
        try:
            os.unlink(self._path)
        except OSError:
            return


def read_running(state: str) -> Running | None:
    """What the server that runs with this state told last; None when none runs."""
    try:
        found = from_json(Running, json.loads(read_bounded(os.path.join(state, NAME))))
    except (OSError, ValueError, CodecError):
        return None
    return found if found.alive else None
