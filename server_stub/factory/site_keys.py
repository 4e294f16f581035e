"""Keys by which sites let the factory in over ssh: one file for all pilots of a frontend that go by the same key.

HTCondor's gridmanager holds connections to a login node for each name of a key file. With a file for each pilot there
would be two for each pilot.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from contextlib import suppress

from pilot_agent.files import write_atomically
from server_stub.credentials.kinds import FILES, Kind
from server_stub.factory.pilots import Pilot

DIRECTORY = "keys"
NAME = FILES[Kind.SSH_KEY]
LEAST_AGE_SECONDS = 600.0
"""A key that was just written may be that of a pilot which is not stored yet."""


def keep(state: str, pilot: Pilot, content: bytes) -> None:
    """Put a key below the factory's ``state``, and a link to it into the directory of a pilot. What is written through
    the link later counts for all pilots that share it, which are of one frontend."""
    directory = os.path.join(state, DIRECTORY)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    path = os.path.join(directory, hashlib.sha256(pilot.frontend.encode() + b"|" + content).hexdigest()[:32])
    write_atomically(path, content)
    os.symlink(path, os.path.join(pilot.directory, NAME))


def tidy(state: str, pilot_directories: Iterable[str], now: float | None = None) -> int:
    """Remove the keys by which none of these pilots goes; how many these were."""
    directory = os.path.join(state, DIRECTORY)
    before = (time.time() if now is None else now) - LEAST_AGE_SECONDS
    with suppress(FileNotFoundError):
        unused = {entry.path for entry in os.scandir(directory) if entry.stat().st_mtime < before}
        if unused:
            unused -= {_target(one) for one in pilot_directories}
        for path in unused:
            os.remove(path)
        return len(unused)
    return 0


def _target(pilot_directory: str) -> str:
    try:
        return os.readlink(os.path.join(pilot_directory, NAME))
    except OSError:
        return ""
