"""Tarballs of one publication as a pilot gets at them: the list of all, and one of them unpacked."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pilot_agent.tarballs.index import Tarball, parse_index
from pilot_agent.tarballs.stepping import step

if TYPE_CHECKING:
    from pilot_agent.process import WakeUp
    from pilot_agent.tarballs.publication import Publication
    from pilot_agent.tarballs.published import Published
    from pilot_agent.trust.bundle import Trust

T = TypeVar("T", bound=Tarball)


@dataclass(frozen=True, slots=True, kw_only=True)
class TarballSource:
    """``place`` is the directory of the index, its address, or ``signed``: what ``trust`` finds. ``index_sha256`` is
    needed of an address.
    ``artifacts`` is a directory of this pilot's own, ``cache`` one that it shares with other pilots of its account
    (empty: none). ``seconds`` bound each of the two things that it does."""

    publication: Publication
    place: str
    index_sha256: str
    environment: Mapping[str, str]
    artifacts: str
    trust: Trust
    cache: str
    cache_mib: int
    seconds: float

    def listed(self, kind: type[T], *, wake: WakeUp | None = None) -> tuple[T, ...]:
        """What the index lists, as ``kind`` has its fields. Raises ``PilotError`` where there is none that can be had
        and believed; ``Interrupted``."""
        source = self._published()
        content: str = step(
            self.publication,
            f"reading the index of {self.publication.name} in {self.place}",
            lambda: source.index(self.artifacts, self._end()).decode("utf-8", "replace"),
            seconds=self.seconds,
            wake=wake,
        )
        return parse_index(content.encode(), self.place, self.publication, kind)

    def unpack(self, tarball: Tarball, directory: str, *, wake: WakeUp | None = None) -> None:
        """Fetch, verify and unpack it to ``directory``, in the place of what an attempt that was cut left there. A
        cache of this pilot's own is not kept. Raises ``PilotError``, ``Interrupted``."""
        what = f"fetching and unpacking {tarball.file}"
        step(self.publication, what, lambda: self._unpack(tarball, directory), seconds=self.seconds, wake=wake)

    def _unpack(self, tarball: Tarball, directory: str) -> None:
        """In the step's child."""
        from pilot_agent.tarballs.cache import TarballCache
        from pilot_agent.tarballs.unpacking import unpack

        end = self._end()
        place = self.cache or os.path.join(self.artifacts, "tarballs")
        cache = TarballCache(place, self.cache_mib << 20, self.publication)
        source = self._published()
        path = source.tarball(tarball, cache, end)
        shutil.rmtree(directory, ignore_errors=True)
        unpack(path, directory, tarball, self.publication, end)
        if not self.cache and path.startswith(f"{cache.directory}/"):
            with suppress(OSError):
                os.unlink(path)
            with suppress(OSError):
                os.rmdir(cache.directory)

    def _published(self) -> Published:
        # Late: few pilots fetch anything, and this loads what reads archives and addresses.
        from pilot_agent.tarballs.published import published

        return published(
            self.publication, self.place, self.index_sha256, self.environment, trust=self.trust, scratch=self.artifacts
        )

    def _end(self) -> float:
        return time.monotonic() + self.seconds
