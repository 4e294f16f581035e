"""Which commit a payload is made from."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit, and whether the files differ from it. All None for sources that no version control knows."""

    commit: str | None = None
    committed: str | None = None
    modified: bool | None = None


def revision_of(project: Path, *parts: str) -> Revision:
    """The commit of a checkout, its date (ISO 8601) and whether these parts of it were changed since; empty where
    `project` is no checkout of git's, or lies inside one of something else."""
    shown = _git(project, "rev-list", "--max-count=1", "--no-commit-header", "--format=%H %cI", "HEAD")
    if shown is None or _git(project, "rev-parse", "--show-prefix") != "":
        return Revision()
    commit, _, committed = shown.partition(" ")
    changed = _git(project, "status", "--porcelain", "--untracked-files=all", "--", *parts)
    return Revision(commit, committed, None if changed is None else changed != "")


def _git(project: Path, *words: str) -> str | None:
    command = ["git", "-C", str(project), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
