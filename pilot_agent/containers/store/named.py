"""What the store remembers of images of the node that jobs name by their path: in which a program ran not long ago, so
that it is not tried again before each job."""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pilot_agent.containers.store.directory import Directory

NAMED = "named"
"""The form of an image that stays where it is."""

SECONDS = 1800
"""How long a proof counts: what lies behind the path may change."""

_LIMIT_BYTES = 1 << 14
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def note(directory: Directory, key: str, runtime: str) -> None:
    """Remember that a program ran. A full disk remembers nothing."""
    try:
        descriptor = os.open(f"ran.{key}", _NEW, 0o600, dir_fd=directory.failures)
        try:
            os.write(descriptor, runtime.encode("utf-8", "surrogateescape"))
        finally:
            os.close(descriptor)
    except OSError:
        return


def ran_lately(directory: Directory, key: str, runtime: str) -> bool:
    """Whether a program ran with this runtime, and not too long ago."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(f"ran.{key}", flags, dir_fd=directory.failures)
        try:
            age = time.time() - os.fstat(descriptor).st_mtime
            return 0 <= age < SECONDS and os.read(descriptor, _LIMIT_BYTES) == runtime.encode(
                "utf-8", "surrogateescape"
            )
        finally:
            os.close(descriptor)
    except OSError:
        return False
