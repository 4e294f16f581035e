"""What the store remembers of images that could not be had: for a while nobody tries again, longer after each time.

Without this a job that is given back comes to the same slot a moment later, and every job behind it waits out the same
deadline.
"""

from __future__ import annotations

import os
import time

from pilot_agent.containers.store.errors import RecentFailureError, StoreError
from pilot_agent.lifecycle.identity import whole
from pilot_agent.light import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pilot_agent.containers.store.directory import Directory

FIRST_SECONDS, LONGEST_SECONDS = 60, 960
"""The pause after the first failure; it doubles with each more."""

_LIMIT_BYTES = 1 << 14
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def note(directory: Directory, key: str, error: StoreError) -> int:
    """Remember a failure; for how many seconds nobody should try again. A full disk remembers nothing."""
    before = _read(directory, key)
    times = before[1] + 1 if before is not None else 1
    pause = min(FIRST_SECONDS << min(times - 1, 10), LONGEST_SECONDS)
    unfinished = f".{key}.{os.getpid()}"
    content = dumps({"time": time.time(), "times": times, "pause": pause, "error": error.to_json()}).encode()
    try:
        descriptor = os.open(unfinished, _NEW, 0o600, dir_fd=directory.failures)
        try:
            os.write(descriptor, content)
        finally:
            os.close(descriptor)
        # A note that was written in part is none for its readers.
        os.rename(unfinished, key, src_dir_fd=directory.failures, dst_dir_fd=directory.failures)
    except OSError:
        return pause
    return pause


def recent(directory: Directory, key: str) -> RecentFailureError | None:
    """The last failure while its pause lasts."""
    found = _read(directory, key)
    if found is None:
        return None
    written, _, pause, error = found
    age = time.time() - written
    if not 0 <= age < pause:
        return None
    left = round(pause - age)
    return RecentFailureError(
        error, f"{error.message} (found {age:.0f} s ago; this node tries again in {left} s)", left
    )


def forget(directory: Directory, key: str) -> None:
    """The image works: the next failure is the first again."""
    try:
        os.unlink(key, dir_fd=directory.failures)
    except OSError:  # nearly always there is none
        return


def sweep(directory: Directory) -> None:
    """Remove what is too old to count."""
    for name in os.listdir(directory.failures):
        try:
            if time.time() - os.stat(name, dir_fd=directory.failures).st_mtime > 2 * LONGEST_SECONDS:
                os.unlink(name, dir_fd=directory.failures)
        except OSError:  # somebody else did
            continue


def _read(directory: Directory, key: str) -> tuple[float, int, int, StoreError] | None:
    """When it was, how often in a row, the pause in seconds, and what it was; None for what is damaged or too old."""
    try:
        descriptor = os.open(key, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory.failures)
        try:
            data = loads(os.read(descriptor, _LIMIT_BYTES))
        finally:
            os.close(descriptor)
        written, times, pause = float(data["time"]), whole(data["times"]), whole(data["pause"])
        found = written, times, min(pause, LONGEST_SECONDS), StoreError.from_json(data["error"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    # An image that failed long ago begins anew.
    return found if times > 0 and time.time() - written < 2 * LONGEST_SECONDS else None
