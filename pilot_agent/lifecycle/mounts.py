"""Mounts below the workspace: found in ``mountinfo``, undone without privileges where that is possible."""

from __future__ import annotations

import os

from pilot_agent.lifecycle.spawn import find_program, run_short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot_agent.lifecycle.budget import Budget
    from pilot_agent.lifecycle.journal import MountEntry

STEP_SECONDS = 3.0


class Mount:
    """One line of ``mountinfo``."""

    __slots__ = ("filesystem", "path")

    def __init__(self, path: str, filesystem: str) -> None:
        self.path = path
        self.filesystem = filesystem


def mounts_below(directory: str, mountinfo: str = "/proc/self/mountinfo") -> list[Mount]:
    """What is mounted below ``directory`` (not at it), the newest first; [] when the table cannot be read."""
    real = os.path.realpath(directory)
    try:
        with open(mountinfo, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            text = file.read()
    except OSError:
        return []
    found = []
    # The kernel escapes no other end of a line, and anybody who may mount FUSE chooses a name.
    for line in filter(None, text.split("\n")):
        before, _, after = line.partition(" - ")
        path = _unescape(before.split(" ")[4])
        if path.startswith(real + "/"):
            found.append(Mount(path, after.split(" ")[0]))
    return found[::-1]


def _unescape(text: str) -> str:
    """proc(5): blank, tab, newline and backslash are octal in ``mountinfo``."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def unmount_all(directory: str, recorded: list[MountEntry], budget: Budget) -> list[dict[str, Any]]:
    """Undo the recorded mounts, newest first, then whatever else is mounted below ``directory``; first in the
    ordinary way, at last lazily. What stays mounted, as leftovers."""
    undo_recorded(recorded, budget)
    environment = _environment()
    for lazy in (False, True):
        for mount in mounts_below(directory):
            for argv in _commands(mount, lazy=lazy):
                if run_short(argv, environment, budget.at_most(STEP_SECONDS)) == 0:
                    break
    return [
        {"kind": "mount", "path": mount.path, "cause": f"{mount.filesystem} could not be unmounted"}
        for mount in mounts_below(directory)
    ]


def undo_recorded(recorded: list[MountEntry], budget: Budget) -> None:
    """Undo the recorded mounts by their own commands, newest first; one that is in use stays."""
    for entry in reversed(recorded):
        if entry.undo and is_mount_point(entry.path):
            run_short(_absolute(entry.undo), _environment(), budget.at_most(STEP_SECONDS))


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"}


def is_mount_point(path: str) -> bool:
    """True when something is mounted at ``path``, by the table: a dead FUSE mount cannot be asked itself."""
    return any(mount.path == os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
               for mount in mounts_below(os.path.dirname(path)))  # fmt: skip


def _absolute(argv: tuple[str, ...]) -> list[str]:
    return [find_program(argv[0]) or argv[0], *argv[1:]]


def _commands(mount: Mount, *, lazy: bool) -> list[list[str]]:
    helpers = []
    if mount.filesystem.startswith("fuse"):
        helpers += [["fusermount3", "-u"] + ["-z"] * lazy, ["fusermount", "-u"] + ["-z"] * lazy]
    helpers.append(["umount", "-n"] + ["-l"] * lazy)
    return [[program, *helper[1:], mount.path] for helper in helpers if (program := find_program(helper[0]))]
