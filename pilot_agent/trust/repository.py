"""Signed artifacts as a pilot gets at them: the client of The Update Framework over the pilot's own downloads.

What the framework refuses is never used: altered, unsigned, signed by another than who may, older than what was seen
before, or too old to be the newest. All of it may take as long as a server does; whoever calls gives it a deadline.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, cast

from pilot_agent.containers.store.errors import NODE, StoreError
from pilot_agent.containers.store.proxies import DIRECT
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.trust.clock import ServerTime
from pilot_agent.trust.delegation import signed_without_right
from pilot_agent.trust.downloads import Downloads

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile
    from tuf.ngclient import FetcherInterface, Updater

    from pilot_agent.trust.bundle import Bundle

MOST_AT_A_TIME = 4


@dataclass(frozen=True, slots=True)
class Source:
    """A mirror by one way: a proxy's address, ``direct``, or None for what the environment says."""

    mirror: str
    proxy: str | None = None

    def __str__(self) -> str:
        way = {None: "", DIRECT: " without a proxy"}.get(self.proxy, f" through {self.proxy}")
        return self.mirror + way


class SignedRepository:
    """What is published at ``mirrors`` (addresses of the directory with ``metadata`` and ``targets``), by the ways of
    ``proxies`` (none: what the environment says).

    The first mirror by the first way is asked first, and another where one cannot be reached, gives what is not to be
    believed, or takes more than half of the time that is left. ``directory`` is the pilot's own and empty; ``end`` is
    of the monotonic clock.
    """

    def __init__(
        self,
        bundle: Bundle,
        mirrors: Sequence[str],
        directory: str,
        environment: Mapping[str, str],
        end: float,
        proxies: Sequence[str] = (),
    ) -> None:
        self._bundle = bundle
        self._sources = [Source(mirror, proxy) for proxy in proxies or (None,) for mirror in mirrors]
        self._directory = directory
        self._environment = dict(environment)
        self._end = end
        self._clients: dict[Source, _Client] = {}
        self._lock = Lock()

    def fetch_all(self, wanted: Mapping[str, str], *, most_bytes: int) -> None:
        """Put each artifact at its path, several at a time; as ``fetch``. What is there when one fails is removed."""
        with ThreadPoolExecutor(MOST_AT_A_TIME) as pool:
            running = [pool.submit(self.fetch, name, path, most_bytes=most_bytes) for name, path in wanted.items()]
            wait(running, return_when=FIRST_EXCEPTION)
            for one in running:
                one.cancel()
        if problem := next((one.exception() for one in running if not one.cancelled() and one.exception()), None):
            for path in wanted.values():
                with suppress(FileNotFoundError):
                    os.unlink(path)
            raise problem

    def fetch(self, name: str, path: str, *, most_bytes: int) -> None:
        """Put the artifact ``name`` at ``path``, verified. Raises ``PilotError``: corruption where a mirror gave what
        must not be believed and none gave better, or where more than ``most_bytes`` were signed; network where none
        could be reached, config where nobody signs it."""
        from tuf.api.exceptions import DownloadError, RepositoryError

        found: list[Failure] = []
        for source in self._sources:
            try:
                with self._lock:
                    client = self._client(source)
                    target = client.updater.get_targetinfo(name)
                    role = signed_without_right(client.updater, client.metadata, name) if target is None else None
                if target is None:
                    # Signed elsewhere perhaps: a mirror may show what was published before as long as it has not
                    # expired.
                    found.append(_unsigned(name, role))
                    continue
                if target.length > most_bytes:
                    raise PilotError(_oversized(target, most_bytes))
                _download(client, target, path)
            except StoreError as error:
                code = error.code.replace("image.", "artifact.", 1)
                found.append(Failure(error.kind, code, error.message, error.hint, retry=error.temporary))
            except (RepositoryError, DownloadError) as error:
                known = self._clients.get(source)  # none where the bundle itself holds nothing to begin with
                found.append(_refused(source, error, known.times if known is not None else ServerTime()))
            except OSError as error:
                raise PilotError(_no_room(error)) from error
            else:
                return
        if not found:
            message = f"{name} is wanted, and no address says from where"
            raise PilotError(Failure(FailureKind.CONFIG, "artifact.missing", message, "the factory names a mirror"))
        raise PilotError(next((one for one in found if one.kind is FailureKind.CORRUPTION), found[0]))

    def _client(self, source: Source) -> _Client:
        """The framework's client of this source, up to date. Each begins with the bundle: what one could not prove is
        not held against the next."""
        client = self._clients.get(source)
        if client is None:
            client = self._clients[source] = self._new_client(source)
            try:
                client.updater.refresh()
            except Exception as error:
                client.problem = error
                raise
        if client.problem is not None:  # as it was for the artifact before
            raise client.problem
        return client

    def _new_client(self, source: Source) -> _Client:
        from tuf.ngclient import Updater

        metadata = os.path.join(self._directory, f"metadata-{os.urandom(6).hex()}")
        os.makedirs(metadata, mode=0o700)
        for role, content in (("timestamp", self._bundle.timestamp), ("snapshot", self._bundle.snapshot)):
            with open(os.path.join(metadata, f"{role}.json"), "wb") as file:
                file.write(content)
        times, last = ServerTime(), source == self._sources[-1]
        end = self._share(last=last)
        downloads = Downloads(self._directory, self._environment, end, times, source.proxy, last=last)
        base = source.mirror.rstrip("/")
        updater = Updater(
            metadata,
            f"{base}/metadata/",
            None,
            f"{base}/targets/",
            cast("FetcherInterface", downloads),
            bootstrap=self._bundle.root,
        )
        return _Client(updater, times, metadata)

    def _share(self, *, last: bool) -> float:
        """Until when a source may be asked: another that is left must have time too."""
        now = time.monotonic()
        return self._end if last else now + (self._end - now) / 2


@dataclass(slots=True)
class _Client:
    updater: Updater
    times: ServerTime
    metadata: str
    problem: Exception | None = None


def _download(client: _Client, target: TargetFile, path: str) -> None:
    status = os.statvfs(os.path.dirname(path))
    if 2 * target.length > status.f_bavail * status.f_frsize:
        message = f"{target.path} has {target.length} bytes: too many for the disk of {os.path.dirname(path)}"
        hint = "the site frees space in the file system of the pilot's scratch directory"
        raise StoreError("disk.full", NODE, message, hint, temporary=True)
    partial = f"{path}.{os.urandom(6).hex()}"
    try:
        client.updater.download_target(target, partial)
        os.rename(partial, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(partial)


def _refused(source: Source, error: Exception, times: ServerTime) -> Failure:
    from tuf.api import exceptions

    codes: tuple[tuple[type[Exception], str, str], ...] = (
        (exceptions.ExpiredMetadataError, "artifact.expired", "is too old to be the newest"),
        (exceptions.BadVersionNumberError, "artifact.rollback", "is older than what was published before"),
        (exceptions.UnsignedMetadataError, "artifact.unsigned", "is not signed by those who must sign it"),
        (exceptions.LengthOrHashMismatchError, "artifact.digest", "is not what was signed"),
        (exceptions.DownloadHTTPError, "artifact.incomplete", "lacks a part of what was signed"),
    )
    kinds = ((code, words) for kind, code, words in codes if isinstance(error, kind))
    code, words = next(kinds, ("artifact.invalid", "is not to be believed"))
    message = f"what {source} publishes {words}: {error}"
    if code == "artifact.expired" and (excuse := times.excuse(source.mirror)) is not None:
        return excuse
    hint = "the factory publishes again; its timer must run" if code == "artifact.expired" else (
        "the factory finds out who changed what is published, or the site what its proxy keeps"
    )  # fmt: skip
    return Failure(FailureKind.CORRUPTION, code, message, hint)


def _unsigned(name: str, role: str | None) -> Failure:
    if role is not None:
        message = f"{name} is signed by {role}, who may not sign it"
        hint = f"the factory asks {role} who does that with its keys; it is no name of {role}'s own"
        return Failure(FailureKind.CORRUPTION, "artifact.delegation", message, hint)
    message = f"nobody who may sign {name} has signed it"
    hint = "the factory or the VO corrects the name, or signs it with packaging/artifacts.py add"
    return Failure(FailureKind.CONFIG, "artifact.missing", message, hint)


def _oversized(target: TargetFile, most_bytes: int) -> Failure:
    message = f"{target.path} has {target.length} bytes, and {most_bytes} are the most that a pilot takes of its kind"
    hint = "whoever signs it makes it smaller"
    return Failure(FailureKind.CORRUPTION, "artifact.too_large", message, hint)


def _no_room(error: OSError) -> Failure:
    message = f"what was fetched cannot be kept: {error.strerror}: {error.filename}"
    hint = "the site frees space in the file system of the pilot's scratch directory"
    return Failure(FailureKind.NODE_RESOURCE, "disk.full", message, hint, retry=True)
