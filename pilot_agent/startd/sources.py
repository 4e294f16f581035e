"""The HTCondor that the pilot runs: the first that is complete, of a wanted version, and works on this node.

Looked for in the order of ``startd.condor_source``: in the configured directory, on the search path, below CVMFS, in
published tarballs. A place that hangs, or an HTCondor that does not start here, is a reason to go on to the next one.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from pilot_agent import CVMFS
from pilot_agent.codec import from_json
from pilot_agent.containers.cvmfs_paths import real_place
from pilot_agent.environment import clean_environment
from pilot_agent.model import Failure, FailureKind, PilotError, worst_failure
from pilot_agent.startd.artifacts import ANY, CONDOR, choose, version_refusal
from pilot_agent.startd.choice import CondorChoice, CondorVerdict, NoCondorError
from pilot_agent.startd.discovery import MISSING_HINT, USUAL_SBIN, find_condor
from pilot_agent.startd.plan import CondorPaths
from pilot_agent.startd.proof import prove
from pilot_agent.tarballs.index import NodeSystem, Tarball
from pilot_agent.tarballs.source import TarballSource
from pilot_agent.tarballs.stepping import step
from pilot_agent.trust.bundle import Trust

if TYPE_CHECKING:
    from pilot_agent.process import WakeUp

SOURCES = ("directory", "path", "cvmfs", "tarball")
LOOK_SECONDS = 20.0
"""For one look at a place that may be a dead mount: as long as for a repository of CVMFS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CondorRequest:
    """Which HTCondor is wanted and where it may be. ``artifacts`` is a directory of this pilot's own, ``cache`` one
    that it shares with other pilots of its account (empty: none), ``cvmfs`` are installation directories below /cvmfs,
    which this node has at ``mount_point``; ``repositories`` are those that the configuration names."""

    artifacts: str
    environment: Mapping[str, str]
    node: NodeSystem = field(default_factory=NodeSystem)
    order: tuple[str, ...] = SOURCES
    version: str = ANY
    directory: str = ""
    cvmfs: tuple[str, ...] = ()
    mount_point: str = CVMFS
    repositories: tuple[str, ...] = ()
    tarballs: str = ""
    index_sha256: str = ""
    trust: Trust = field(default_factory=Trust)
    cache: str = ""
    cache_mib: int = 512
    fetch_seconds: float = 300.0


def obtain_condor(request: CondorRequest, *, wake: WakeUp | None = None) -> tuple[CondorPaths, CondorChoice]:
    """The HTCondor to run, and the report of how it was chosen.

    Raises ``NoCondorError`` with all that was tried: condor.missing where there is none, otherwise the failure of
    whoever must act first (condor.incomplete, condor.unusable, artifact.*, disk.full); ``Interrupted`` when ``wake``
    becomes readable.
    """
    return _Search(request, wake).run()


class _Search:
    def __init__(self, request: CondorRequest, wake: WakeUp | None) -> None:
        self._request = request
        self._wake = wake
        self._why: list[CondorVerdict] = []
        self._failures: list[Failure] = []

    def run(self) -> tuple[CondorPaths, CondorChoice]:
        began = time.monotonic()
        ways = {
            "directory": self._from_directory,
            "path": self._from_path,
            "cvmfs": self._from_cvmfs,
            "tarball": self._from_tarballs,
        }
        for source in dict.fromkeys(word.lower() for word in self._request.order):
            for place, paths, sha256 in ways[source]():
                verdict = CondorVerdict(source, place, paths.version, taken=True)
                choice = CondorChoice(source, place, paths.version, paths.release, sha256)
                seconds = round(time.monotonic() - began, 3)
                return paths, replace(choice, seconds=seconds, why=(*self._why, verdict))
        raise NoCondorError(self._failure(), CondorChoice(why=tuple(self._why)))

    def _from_directory(self) -> Iterator[tuple[str, CondorPaths, str]]:
        if self._request.directory:
            yield from self._installed("directory", self._request.directory, proven=True)

    def _from_path(self) -> Iterator[tuple[str, CondorPaths, str]]:
        yield from self._installed("path", None, proven=False)

    def _from_cvmfs(self) -> Iterator[tuple[str, CondorPaths, str]]:
        for directory in self._request.cvmfs:
            repository = directory.split("/")[2]
            hint = f"; where the site has no {repository}, a pilot mounts it if the VO adds it to cvmfs.repositories"
            named = repository in self._request.repositories
            yield from self._installed("cvmfs", directory, proven=True, hint="" if named else hint)

    def _installed(
        self, source: str, directory: str | None, *, proven: bool, hint: str = ""
    ) -> Iterator[tuple[str, CondorPaths, str]]:
        """An installation that is there already; what the site has on its search path need not prove that it runs.
        ``hint`` is added to the reason where there is none."""
        place = directory or f"the search path and {', '.join(USUAL_SBIN)}"
        try:
            paths = self._look(directory)
            if reason := version_refusal(paths.version, self._request.version):
                self._refuse(source, paths.release, paths.version, reason)
                return
            if proven:
                prove(paths, self._environment(), wake=self._wake)
        except PilotError as error:
            failure = error.failure
            if failure.code == "condor.missing":
                failure = replace(failure, message=f"{failure.message}{hint}")
            self._failed(source, place, "", failure)
            return
        yield directory if source == "cvmfs" and directory else paths.release, paths, ""

    def _look(self, directory: str | None) -> CondorPaths:
        environment, mount_point = dict(self._request.environment), self._request.mount_point

        def look() -> object:
            place = real_place(directory, mount_point) if directory is not None else None
            return asdict(find_condor(place, environment))

        what = f"the look for HTCondor in {directory or 'the search path'}"
        return from_json(CondorPaths, step(CONDOR, what, look, seconds=LOOK_SECONDS, wake=self._wake))

    def _from_tarballs(self) -> Iterator[tuple[str, CondorPaths, str]]:
        request = self._request
        if not request.tarballs:
            return
        source = TarballSource(
            publication=CONDOR,
            place=request.tarballs,
            index_sha256=request.index_sha256,
            environment=request.environment,
            artifacts=request.artifacts,
            trust=request.trust,
            cache=request.cache,
            cache_mib=request.cache_mib,
            seconds=request.fetch_seconds,
        )
        try:
            listed = source.listed(Tarball, wake=self._wake)
        except PilotError as error:
            self._failed("tarball", request.tarballs, "", error.failure)
            return
        choice = choose(listed, request.node, request.version)
        for tarball, reason in choice.refused:
            self._refuse("tarball", tarball.file, tarball.version, reason)
        if not choice.fitting:
            many = f"none of its {len(listed)} tarballs fits this node" if listed else "it lists no tarball"
            self._refuse("tarball", request.tarballs, "", many)
        for tarball in choice.fitting:
            yield from self._unpacked(source, tarball)

    def _unpacked(self, source: TarballSource, tarball: Tarball) -> Iterator[tuple[str, CondorPaths, str]]:
        release = os.path.join(self._request.artifacts, f"condor-{tarball.version}-{tarball.sha256[:12]}")
        try:
            source.unpack(tarball, release, wake=self._wake)
            paths = self._look(release)
            prove(paths, self._environment(), wake=self._wake)
        except PilotError as error:
            shutil.rmtree(release, ignore_errors=True)
            self._failed("tarball", tarball.file, tarball.version, error.failure)
            return
        yield tarball.file, paths, tarball.sha256

    def _environment(self) -> dict[str, str]:
        clean = clean_environment(
            self._request.environment, home=self._request.artifacts, temporary=self._request.artifacts
        )
        # No configuration of the node's may decide whether a program starts.
        return clean | {"CONDOR_CONFIG": "/dev/null"}

    def _refuse(self, source: str, place: str, version: str, reason: str) -> None:
        self._why.append(CondorVerdict(source, place, version, taken=False, reason=reason))

    def _failed(self, source: str, place: str, version: str, failure: Failure) -> None:
        self._refuse(source, place, version, failure.message)
        self._failures.append(failure)

    def _failure(self) -> Failure:
        """The failure of whoever must act first; that there is no HTCondor, only where nothing else went wrong."""
        others = [failure for failure in self._failures if failure.code != "condor.missing"]
        tried = "; ".join(f"{one.source} {one.place}: {one.reason}" for one in self._why) or "no source is configured"
        decisive = worst_failure(others)
        if decisive is None:
            message = f"no HTCondor that this pilot can run: {tried}"
            return Failure(
                FailureKind.NODE_RESOURCE, "condor.missing", message, MISSING_HINT, stage="handoff", retry=True
            )
        if len(self._why) == 1:
            return decisive
        return replace(decisive, message=f"{decisive.message} (all that was tried: {tried})")
