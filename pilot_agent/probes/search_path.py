"""Programs that everybody on the node may exchange are not started: the pilot may run as root, or hold tokens.

The rule is that of ``trust.local`` (sshd's StrictModes), but for accounts and groups that a site gave its software to:
a search path on a cluster is full of directories of such accounts. What is asked for goes through a function that
tells a file's status, so that it is recorded.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator

from pilot_agent.probes.answers import FileStatus, status_of

Look = Callable[[str], FileStatus | None]


def status_here(path: str) -> FileStatus | None:
    """The status of a file of this machine, links followed; None when there is none to be had."""
    try:
        return status_of(os.stat(path))
    except (OSError, ValueError):
        return None


def open_to_everybody(path: str, look: Look) -> str:
    """Why everybody on the node may change the file or directory at ``path`` (absolute, without links) or put another
    one in its place, for the end of a message; empty when only accounts of somebody's choice may.

    In a directory that everybody may write to the sticky bit keeps what is there, but the next program there may be
    anybody's: for directories themselves it does not count.
    """
    for above in _above(path):
        status = look(above)
        if status is None or status.kind != "directory":
            continue
        if status.mode & stat.S_IWOTH and not status.mode & stat.S_ISVTX:
            return f"everybody may write to {above}"
        if not status.mode & stat.S_IXOTH:
            # Who may not pass here reaches nothing below.
            return ""
    status = look(path)
    return f"everybody may write to {path}" if status is not None and status.mode & stat.S_IWOTH else ""


def exchangeable(path: str, real: str, look: Look) -> str:
    """Why everybody may put another program in the place of the one at ``path``, whose directory has no links in it;
    ``real`` is where its own lead. Empty when not."""
    places = (os.path.dirname(path), os.path.dirname(real), real)
    return next(filter(None, (open_to_everybody(place, look) for place in dict.fromkeys(places))), "")


def find_program(name: str, directories: Iterable[str], look: Look) -> tuple[str | None, list[str], list[str]]:
    """The first program of this name in the directories that not everybody may exchange, if any; the directories up to
    it that may be searched; and why others were passed over. Raises nothing, but may hang where a mount is dead."""
    searched: list[str] = []
    passed_over: list[str] = []
    for directory in directories:
        path = f"{directory}/{name}"
        reason = open_to_everybody(os.path.realpath(directory), look)
        if not reason and _is_program(look(path)):
            reason = exchangeable(path, os.path.realpath(path), look)
            if not reason:
                return path, [*searched, directory], passed_over
        if reason:
            passed_over.append(f"{directory} was passed over: {reason}")
        else:
            searched.append(directory)
    return None, searched, passed_over


def _is_program(status: FileStatus | None) -> bool:
    return status is not None and status.kind == "file" and bool(status.mode & 0o111)


def _above(path: str) -> Iterator[str]:
    """The directories above an absolute path, the root first."""
    parts = path.split("/")
    return ("/".join(parts[:end]) or "/" for end in range(1, len(parts)))
