"""What a command that makes a new server of its own files asks first."""

from __future__ import annotations

import os
from collections.abc import Iterable

from pilot_agent.model import Failure, FailureKind, PilotError


def require_free(paths: Iterable[str]) -> None:
    """Nothing, where none of these files and directories is there. A directory that systemd or a package made for the
    account is taken, as long as it is empty. Raises ``PilotError`` (file.exists)."""
    there = [path for path in paths if os.path.lexists(path) and not _empty(path)]
    if there:
        message = f"{', '.join(there)} exists already, and nothing was written"
        hint = "name another directory, or move what is there away; whoever gave the command must act"
        raise PilotError(Failure(FailureKind.USAGE, "file.exists", message, hint))


def _empty(path: str) -> bool:
    return os.path.isdir(path) and not os.listdir(path)
