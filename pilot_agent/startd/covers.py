"""Which directories of the node a job's starter does not see, and what below them it needs all the same."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilot_agent import CVMFS

if TYPE_CHECKING:
    from collections.abc import Iterable

# Without these, or what lies above them, no program runs: they are not covered, whoever keeps a workspace there.
ESSENTIAL = (
    *("/bin", "/sbin", "/lib", "/lib64", "/usr", "/etc", "/dev", "/proc", "/sys", "/run", "/var", CVMFS),
    *("/var/lib/apptainer", "/var/lib/singularity"),
)


@dataclass(frozen=True, slots=True)
class Cover:
    """A directory that is covered, and the directories and files below it that stay in sight; real paths."""

    directory: str
    directories: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


def plan_covers(hidden: Iterable[str], needed: Iterable[str]) -> tuple[Cover, ...]:
    """The covers for the directories that should be ``hidden``; none for a directory that the node cannot do without,
    and none where all of it is ``needed``. What is needed and not there is left out."""
    paths = _below_nothing_remote(needed)
    wanted = {os.path.realpath(path) for path in hidden if path and os.path.isabs(path)}
    possible = {
        path
        for path in wanted
        if os.path.isdir(path) and not any(_contains(path, one) for one in ESSENTIAL) and not _inside(path, paths)
    }
    outermost = sorted(path for path in possible if not any(_contains(one, path) for one in possible - {path}))
    return tuple(_cover(directory, paths) for directory in outermost)


def token_directories(source: str, needed: Iterable[str]) -> tuple[str, ...]:
    """The directories in which the pool's token is delivered, as far as they are its own: they hold nothing but the
    file and those that begin with its name, or with two dots as Kubernetes has them. Real paths.

    A cover over the file alone falls away when another is renamed to its place (``rename(2)`` and
    ``mount_namespaces(7)``); one over the directory stays.
    """
    paths = _below_nothing_remote(needed)
    places = (source, os.path.realpath(source))
    own = {os.path.realpath(os.path.dirname(place)) for place in places if _holds_only(place)}
    kept = {one for one in own if not any(_contains(one, path) for path in paths)}
    return tuple(sorted(one for one in kept if not any(_contains(other, one) for other in kept - {one})))


def _holds_only(place: str) -> bool:
    directory, name = os.path.split(place)
    try:
        return all(entry.startswith((name, f".{name}", "..")) for entry in os.listdir(directory))
    except OSError:
        return False


def _cover(directory: str, paths: set[str]) -> Cover:
    below = {path for path in paths if _contains(directory, path)}
    shown = sorted(path for path in below if not any(_contains(one, path) for one in below - {path}))
    return Cover(
        directory=directory,
        directories=tuple(path for path in shown if os.path.isdir(path)),
        files=tuple(path for path in shown if os.path.isfile(path)),
    )


def _below_nothing_remote(needed: Iterable[str]) -> set[str]:
    """The paths and what they lead to. Those of CVMFS, where a look may hang, lie below no cover."""
    paths = {os.path.normpath(path) for path in needed if os.path.isabs(path) and not _contains(CVMFS, path)}
    return paths | {os.path.realpath(path) for path in paths}


def _inside(path: str, places: Iterable[str]) -> bool:
    return any(_contains(place, path) for place in places)


def _contains(directory: str, path: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
