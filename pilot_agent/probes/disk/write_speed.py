"""How fast files reach a disk: on request only, as it writes, and so takes from others on a busy node."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping

from pilot_agent.model import Json
from pilot_agent.probes.answers import Answer

MIB = 1 << 20
# So much is written between two looks at the clock.
_STEP_MIB = 8


def measure_write(directory: str, mib: int, seconds: float) -> Json:
    """Write ``mib`` MiB and sync them to the disk, ending early after ``seconds``: ``{"mib": ..., "seconds": ...}``.

    The file has no name, so nothing stays however this ends. Raises ``OSError``.
    """
    # What a file system or a disk cannot compress, unlike zeros.
    block = os.urandom(MIB)
    descriptor = _nameless(directory)
    try:
        started = time.monotonic()
        written = 0
        while written < mib and time.monotonic() - started < seconds:
            for _ in range(min(_STEP_MIB, mib - written)):
                view = memoryview(block)
                while view:
                    view = view[os.write(descriptor, view) :]
                written += 1
            os.fdatasync(descriptor)
        os.fsync(descriptor)
        return {"mib": written, "seconds": time.monotonic() - started}
    finally:
        os.close(descriptor)


def mib_per_second(answer: Answer) -> float | None:
    """The speed in an answer; None when there is none."""
    value = answer.value if isinstance(answer.value, Mapping) else {}
    written, seconds = value.get("mib"), value.get("seconds")
    if not isinstance(written, int | float) or not isinstance(seconds, int | float) or not 0 < seconds < 1e6:
        return None
    return round(written / seconds, 1) if 0 < written < 1e12 else None


def _nameless(directory: str) -> int:
    """A new file without a name: where the file system cannot make one (open(2), O_TMPFILE), its name is removed at
    once."""
    with contextlib.suppress(OSError):
        return os.open(directory, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    path = os.path.join(directory, f".pilot-agent-speed-{os.getpid()}-{os.urandom(6).hex()}")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.unlink(path)
    return descriptor
