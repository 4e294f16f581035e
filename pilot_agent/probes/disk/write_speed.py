"""How fast files reach a disk: on request only, as it writes, and so takes from others on a busy node."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from pilot_agent.model import Json
from pilot_agent.probes.answers import Answer
from pilot_agent.probes.disk.nameless import make_nameless

MIB = 1 << 20
# So much is written between two looks at the clock.
_STEP_MIB = 8


def measure_write(directory: str, mib: int, seconds: float) -> Json:
    """Write ``mib`` MiB and sync them to the disk, ending early after ``seconds``: ``{"mib": ..., "seconds": ...}``.

    The file has no name, so nothing stays however this ends. Raises ``OSError``.
    """
    # What a file system or a disk cannot compress, unlike zeros.
    block = os.urandom(MIB)
    descriptor = make_nameless(directory)
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
