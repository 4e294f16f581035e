"""What a survivor tells the factory of a pilot that died and was not meant to: why, and the ends of HTCondor's logs.

The report says the rest. Its logs come home with the batch job, and of the pilots that die so many a job never does.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot_agent.workspace import Workspace

LOGS = ("MasterLog", "StartLog")
TAIL_BYTES = 6 << 10
UNMEANT_CODES = ("guardian.gone",)
"""Of ends that count as no fault of the pilot's, and that nobody asked for."""


def last_words(problem: dict[str, Any] | None, workspace: Workspace) -> str:
    """The text; empty for an end that was meant, and for one that the report explains by itself. Reads the logs where
    they still are."""
    if problem is None or (problem["kind"] != "internal" and problem["code"] not in UNMEANT_CODES):
        return ""
    lines = [f"{problem['kind']}: {problem['code']}: {problem['message']}", problem["hint"]]
    for name in LOGS:
        tail = _tail(os.path.join(workspace.condor_log, name))
        lines += [f"--- the end of {name} ---", tail] if tail else []
    return "\n".join(line for line in lines if line) + "\n"


def _tail(path: str) -> str:
    """The last whole lines of a file, within ``TAIL_BYTES``; nothing where there is none. No link is followed: jobs
    have the pilot's own uid."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        began = max(0, os.fstat(descriptor).st_size - TAIL_BYTES)
        text = os.pread(descriptor, TAIL_BYTES, began).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    return (text.partition("\n")[2] if began else text).strip()
