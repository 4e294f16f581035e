"""A file system that does not answer: whoever asks it sleeps in the kernel, hears no signal, and may never come back.

So a child asks, which can be left behind. FUSE and NFS ask their server for the size of a file system each time.
"""

from __future__ import annotations

import time

from pilot_agent.lifecycle.spawn import find_program, run_short

SILENT_SECONDS = 10.0
"""More than a busy node takes for a small program."""


def answers(directory: str, seconds: float = SILENT_SECONDS) -> bool:
    """Whether the file system of ``directory`` answers in time, be it that there is no such directory.

    Where nobody can be sent to ask it is taken for one that does.
    """
    program = find_program("stat")
    if program is None:
        return True
    began = time.monotonic()
    code = run_short([program, "-f", "--", directory], {"LC_ALL": "C"}, seconds)
    return code is not None or time.monotonic() - began < seconds
