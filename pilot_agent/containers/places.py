"""Where container runtimes are looked for, in the order that the configuration gives."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pilot_agent import CVMFS
from pilot_agent.containers import modules
from pilot_agent.containers.cvmfs_paths import physical
from pilot_agent.probes.search_path import exchangeable, status_here
from pilot_agent.process import Runner, WakeUp

NAMES = ("apptainer", "singularity")
"""In every place the first of these that is there comes first."""

SYSTEM_DIRECTORY = "/usr/bin"
USUAL_CONDOR = ("/usr", "/usr/local", "/opt/condor")
CONDOR_PLACES = ("libexec/apptainer", "usr/libexec/apptainer", "usr/bin/apptainer")
CVMFS_REPOSITORY = "oasis.opensciencegrid.org"
CVMFS_PLACES = (
    f"{CVMFS}/{CVMFS_REPOSITORY}/mis/apptainer/bin/apptainer",
    f"{CVMFS}/{CVMFS_REPOSITORY}/mis/apptainer/current/bin/apptainer",
    f"{CVMFS}/{CVMFS_REPOSITORY}/mis/singularity/bin/singularity",
    f"{CVMFS}/{CVMFS_REPOSITORY}/mis/singularity/current/bin/singularity",
)
ALL = ("path", "system", "condor", "cvmfs", "modules")
LOOK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Place:
    """A program to ask, and where it was found: what the report calls its origin."""

    path: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What decides where is looked. ``site`` is the environment that the pilot was started with, ``environment`` the
    clean one of its children; ``offered`` are (path, plugin); ``repositories`` the CVMFS repositories that answer,
    and ``cvmfs`` where the node has what is below /cvmfs.
    """

    configured: str | None = None
    offered: tuple[tuple[str, str], ...] = ()
    order: Sequence[str] = ALL
    condor_directory: str | None = None
    repositories: tuple[str, ...] = ()
    cvmfs: str = CVMFS
    environment: Mapping[str, str] = field(default_factory=dict)
    site: Mapping[str, str] = field(default_factory=dict)
    wake: WakeUp | None = None

    def places(self) -> Iterator[Place]:
        """Every program, each only once, as they are needed: what is slow is done only when all before it failed.

        A configured or offered path is given even when nothing is there, so that it can be said; what everybody on the
        node may exchange is passed over elsewhere. Raises ``Interrupted``.
        """
        seen: set[str] = set()
        named = [Place(self.configured, "containers.runtime")] if self.configured else []
        named += [Place(path, plugin) for path, plugin in self.offered]
        for place in named:
            # A named path may lie on a mount that is dead; whoever asks it for its version has a deadline.
            if place.path not in seen:
                seen.add(place.path)
                yield place
        # Links are followed in a child, as a look at a dead mount would never return.
        seen |= {real for real in _looked_at([place.path for place in named], self.wake) if real}
        for word in self.order:
            for place in self._in(word.lower()):
                real = os.path.realpath(place.path) if word.lower() != "cvmfs" else place.path
                if real not in seen:
                    seen.add(real)
                    yield place

    def _in(self, word: str) -> Iterator[Place]:
        if word == "path":
            yield from _in_directories(self._search_path(), "PATH")
        elif word == "system":
            yield from _in_directories([SYSTEM_DIRECTORY], SYSTEM_DIRECTORY)
        elif word == "condor":
            yield from self._in_condor()
        elif word == "cvmfs":
            yield from self._in_cvmfs()
        elif word == "modules":
            yield from self._in_modules()

    def _search_path(self) -> list[str]:
        # A search path may name /cvmfs; a repository that does not answer would hang a plain look at it.
        listed = [directory for directory in self.environment.get("PATH", "").split(":") if directory.startswith("/")]
        return [directory for directory in listed if self._answers(directory)]

    def _answers(self, path: str) -> bool:
        return not path.startswith(f"{CVMFS}/") or path.split("/")[2] in self.repositories

    def _in_condor(self) -> Iterator[Place]:
        """The Apptainer of the HTCondor installation that the pilot will start."""
        for release in self._releases():
            for part in CONDOR_PLACES:
                path = os.path.join(release, part)
                if _may_run(path):
                    yield Place(path, "HTCondor")

    def _releases(self) -> list[str]:
        if self.condor_directory is not None:
            return [self.condor_directory]
        places = [(directory, os.path.join(directory, "condor_master")) for directory in self._search_path()]
        found = [os.path.dirname(os.path.realpath(master)) for _, master in places if _may_run(master)]
        found = [os.path.dirname(directory) for directory in found]
        return list(dict.fromkeys([*found, *USUAL_CONDOR]))

    def _in_cvmfs(self) -> Iterator[Place]:
        if CVMFS_REPOSITORY not in self.repositories:
            return
        paths = [physical(path, self.cvmfs) for path in CVMFS_PLACES]
        for path, real in zip(paths, _looked_at(paths, self.wake), strict=True):
            if real:
                yield Place(path, "CVMFS")

    def _in_modules(self) -> Iterator[Place]:
        command = modules.program(self.site)
        if command is None:
            return
        for name in modules.NAMES:
            listed = modules.directories(name, command, self.site, self.environment, self.wake)
            yield from _in_directories([d for d in listed if self._answers(d)], f"module {name}")

    def described(self) -> str:
        """Where was looked, in words for a message."""
        words = {"path": "PATH", "system": SYSTEM_DIRECTORY, "condor": "HTCondor's installation", "cvmfs": "CVMFS"}
        words["modules"] = "environment modules"
        listed = [*(["containers.runtime"] if self.configured else []), *dict.fromkeys(p for _, p in self.offered)]
        listed += [words.get(word.lower(), word) for word in self.order]
        if not listed:
            return "no place"
        passed_over = "; ".join(self._passed_over())
        where = ", ".join(listed[:-1]) + (" or " if len(listed) > 1 else "") + listed[-1]
        return f"{where} ({passed_over})" if passed_over else where

    def _passed_over(self) -> Iterator[str]:
        """What on the search path is not run, and why."""
        if "path" in (word.lower() for word in self.order):
            for directory in self._search_path():
                paths = [os.path.join(directory, name) for name in NAMES]
                reason = next(filter(None, (_exposed(path) for path in paths if _is_program(path))), "")
                if reason:
                    yield f"{directory} was passed over: {reason}"


def _in_directories(directories: Sequence[str], origin: str) -> Iterator[Place]:
    for name in NAMES:
        for directory in directories:
            path = os.path.join(directory, name)
            if _may_run(path):
                yield Place(path, origin)


def _may_run(path: str) -> bool:
    return _is_program(path) and not _exposed(path)


def _exposed(path: str) -> str:
    """Why everybody on the node may put another program in its place; empty when not."""
    directory, name = os.path.split(path)
    return exchangeable(os.path.join(os.path.realpath(directory), name), os.path.realpath(path), status_here)


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _looked_at(paths: Sequence[str], wake: WakeUp | None) -> list[str | None]:
    """The physical path of each that is a program, None for the others and for all behind a look that hangs."""
    if not paths:
        return []
    with Runner(wake) as runner:
        handle = runner.start_call(
            lambda: json.dumps([os.path.realpath(path) if _is_program(path) else None for path in paths]).encode(),
            name="runtimes",
            deadline_seconds=LOOK_SECONDS,
        )
        result = runner.wait(handle)
    if not result.ok or not result.answer:
        return [None] * len(paths)
    found: list[str | None] = json.loads(result.answer)
    return found
