"""Where tarballs come from, behind one small interface: the bytes of an index, and the file of one entry.

What came over the network is never believed for where it came from: the configuration pins the index by its digest, and
the index pins each tarball. A directory of the node is believed where only root and the pilot's account can change it.
Each method may hang as long as the file system or the server does: they run in a bounded step.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, urljoin

from pilot_agent.containers.store.errors import NODE, StoreError, of_the_system
from pilot_agent.files import read_bounded
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.trust.local import writable_by_others

if TYPE_CHECKING:
    from pilot_agent.tarballs.cache import TarballCache
    from pilot_agent.tarballs.index import Tarball
    from pilot_agent.tarballs.publication import Publication
    from pilot_agent.trust.bundle import Trust

INDEX = "index.json"
SIGNED = "signed"
"""The place of what is signed, wherever ``artifacts.mirrors`` are."""
MOST_INDEX_BYTES = 1 << 20
STALL_SECONDS = 30.0


class Published(Protocol):
    """A place with an index of tarballs."""

    @property
    def place(self) -> str:
        """Its path or address, for people."""
        ...

    def index(self, scratch: str, end: float) -> bytes:
        """The index, once it may be believed; before ``end`` of the monotonic clock. ``scratch`` is a directory of this
        pilot's own. Raises ``PilotError`` and ``StoreError``."""
        ...

    def tarball(self, tarball: Tarball, cache: TarballCache, end: float) -> str:
        """The path of the tarball's file, which is verified again before it is unpacked. Raises as ``index``."""
        ...


def published(
    publication: Publication,
    place: str,
    index_sha256: str | None,
    environment: Mapping[str, str],
    *,
    trust: Trust,
    scratch: str,
) -> Published:
    """What the publication's ``place_key`` names. ``scratch`` is a directory of this pilot's own. Raises ``PilotError``
    (artifact.unsigned) for an address without a pinned digest of its index."""
    if place == SIGNED:
        return SignedArtifacts(publication, trust, dict(environment), scratch)
    if place.startswith("/"):
        return LocalDirectory(publication, place, index_sha256 or "")
    if not index_sha256:
        message = f"the index of {publication.name} at {place} comes over the network, and nothing says what it must be"
        hint = f"the factory sets {publication.digest_key} to the digest that {publication.tool} printed, "
        hint += f"or signs all of it and sets {publication.place_key} to `{SIGNED}`"
        raise _error(publication, FailureKind.CORRUPTION, "artifact.unsigned", message, hint)
    return PinnedAddress(publication, place, index_sha256, dict(environment))


@dataclass(frozen=True, slots=True)
class LocalDirectory:
    """A directory of the node, with an index.json. ``index_sha256`` may be empty."""

    publication: Publication
    place: str
    index_sha256: str

    def index(self, scratch: str, end: float) -> bytes:
        path = os.path.join(self.place, INDEX)
        self._believe(path)
        try:
            content = read_bounded(path, limit_bytes=MOST_INDEX_BYTES + 1)
        except OSError as error:
            message = f"{path} cannot be read: {error.strerror}"
            sort = self.publication
            hint = f"the factory makes {sort.place_key} a directory that {sort.tool} wrote"
            raise _error(sort, FailureKind.CONFIG, "artifact.missing", message, hint) from error
        if len(content) > MOST_INDEX_BYTES:
            raise _too_large(self.publication, path)
        found = hashlib.sha256(content).hexdigest()
        if self.index_sha256 and found != self.index_sha256:
            message = f"{path} has the digest {found}, and {self.publication.digest_key} is {self.index_sha256}"
            hint = "whoever publishes the tarballs finds out who changed it; a new index needs a new digest"
            raise _error(self.publication, FailureKind.CORRUPTION, "artifact.digest", message, hint)
        return content

    def tarball(self, tarball: Tarball, cache: TarballCache, end: float) -> str:
        path = os.path.join(self.place, tarball.file)
        if not os.path.isfile(path):
            message = f"{path} is not there, though the index lists it"
            hint = "whoever publishes the tarballs puts it there again"
            raise _error(self.publication, FailureKind.CONFIG, "artifact.missing", message, hint)
        return path

    def _believe(self, path: str) -> None:
        reason = writable_by_others(self.place) or writable_by_others(path)
        if reason and not self.index_sha256:
            sort = self.publication
            hint = f"the site lets only root or the pilot's account write there, or {sort.digest_key} pins it"
            message = f"the index of {sort.name} cannot be believed: {reason}"
            raise _error(sort, FailureKind.CORRUPTION, "artifact.unsigned", message, hint)


@dataclass(frozen=True, slots=True)
class PinnedAddress:
    """The https:// or http:// address of an index with a known digest; its tarballs lie beside it."""

    publication: Publication
    place: str
    index_sha256: str
    environment: Mapping[str, str]

    def index(self, scratch: str, end: float) -> bytes:
        def fetch(path: str) -> None:
            self._fetch(self.place, path, self.index_sha256, MOST_INDEX_BYTES, end)

        return _fetched_index(fetch, scratch, self.place)

    def tarball(self, tarball: Tarball, cache: TarballCache, end: float) -> str:
        def fetch(path: str) -> None:
            self._fetch(urljoin(self.place, quote(tarball.file)), path, tarball.sha256, tarball.size_bytes, end)

        return cache.get(tarball, fetch, end)

    def _fetch(self, url: str, path: str, digest: str, most_bytes: int, end: float) -> None:
        from pilot_agent.containers.store.download import Download

        def admit(size: int, there: int) -> None:
            if max(size, there) > most_bytes:
                raise _too_large(self.publication, url)
            status = os.statvfs(os.path.dirname(path))
            if size - there > status.f_bavail * status.f_frsize:
                message = f"{url} has {size} bytes: too many for the disk of {os.path.dirname(path)}"
                hint = f"the site frees space in the file system of {self.publication.cache_key}, "
                hint += "or of the pilot's scratch directory"
                raise StoreError("disk.full", NODE, message, hint, temporary=True)

        download = Download(
            url=url,
            path=path,
            digest=f"sha256:{digest}",
            environment=self.environment,
            end=end,
            stall_seconds=STALL_SECONDS,
            image=False,
            plain=True,
            elsewhere=False,
        )
        download.run(admit, lambda *_: None)


@dataclass(frozen=True, slots=True)
class SignedArtifacts:
    """An index and its tarballs among the signed artifacts, under the name of their kind."""

    publication: Publication
    trust: Trust
    environment: Mapping[str, str]
    scratch: str

    @property
    def place(self) -> str:
        return f"{self.publication.code}/ of what is signed"

    def index(self, scratch: str, end: float) -> bytes:
        return _fetched_index(lambda path: self._fetch(INDEX, path, MOST_INDEX_BYTES, end), scratch, self.place)

    def tarball(self, tarball: Tarball, cache: TarballCache, end: float) -> str:
        return cache.get(tarball, lambda path: self._fetch(tarball.file, path, tarball.size_bytes, end), end)

    def _fetch(self, name: str, path: str, most_bytes: int, end: float) -> None:
        repository = self.trust.repository(self.scratch, self.environment, end)
        repository.fetch(f"{self.publication.code}/{name}", path, most_bytes=most_bytes)


def _fetched_index(fetch: Callable[[str], None], scratch: str, place: str) -> bytes:
    """The content of the file that ``fetch`` wrote to the path that it got, which is gone then. Raises ``StoreError``
    and what ``fetch`` raises."""
    path = os.path.join(scratch, f"index-{os.urandom(6).hex()}.json")
    try:
        fetch(path)
        return read_bounded(path, limit_bytes=MOST_INDEX_BYTES)
    except OSError as error:
        raise of_the_system(error, f"{place} cannot be kept in {scratch}") from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)


def _too_large(publication: Publication, place: str) -> PilotError:
    message = f"{place} is larger than it may be"
    hint = "whoever publishes the tarballs puts the right file there"
    return _error(publication, FailureKind.CORRUPTION, "artifact.digest", message, hint)


def _error(publication: Publication, kind: FailureKind, code: str, message: str, hint: str) -> PilotError:
    return PilotError(Failure(kind, code, message, hint, stage=publication.stage))
