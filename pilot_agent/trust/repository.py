"""Signed artifacts as a pilot gets at them: the client of The Update Framework over the pilot's own downloads.

What the framework refuses is never used: altered, unsigned, signed by another than who may, older than what was seen
before, or too old to be the newest. All of it may take as long as a server does; whoever calls gives it a deadline.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, cast

from pilot_agent.containers.store.download import Download
from pilot_agent.containers.store.errors import CONFIG, NODE, StoreError
from pilot_agent.files import read_bounded
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.trust.clock import ServerTime

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile
    from tuf.ngclient import FetcherInterface, Updater

    from pilot_agent.trust.bundle import Bundle

STALL_SECONDS = 30.0
_ABSENT = {"image.missing": 404, "image.unauthorized": 403}
_TIMESTAMP = "timestamp.json"


class SignedRepository:
    """What is published at ``mirrors`` (addresses of the directory with ``metadata`` and ``targets``), the first one
    first; another is asked where one cannot be reached or gives what is not to be believed.

    ``directory`` is the pilot's own and empty; ``end`` is of the monotonic clock.
    """

    def __init__(
        self,
        bundle: Bundle,
        mirrors: Sequence[str],
        directory: str,
        environment: Mapping[str, str],
        end: float,
    ) -> None:
        self._bundle = bundle
        self._mirrors = tuple(mirrors)
        self._directory = directory
        self._environment = dict(environment)
        self._end = end
        self._times = {mirror: ServerTime() for mirror in self._mirrors}
        self._updaters: dict[str, Updater] = {}

    def fetch(self, name: str, path: str, *, most_bytes: int) -> None:
        """Put the artifact ``name`` at ``path``, verified. Raises ``PilotError``: corruption where a mirror gave what
        must not be believed and none gave better, or where more than ``most_bytes`` were signed; network where none
        could be reached, config where nobody signs it."""
        from tuf.api.exceptions import DownloadError, RepositoryError

        found: list[Failure] = []
        for mirror in self._mirrors:
            try:
                target = self._updater(mirror).get_targetinfo(name)
                if target is None:
                    # Signed elsewhere perhaps: a mirror may show what was published before as long as it has not
                    # expired.
                    found.append(_unsigned(name))
                    continue
                if target.length > most_bytes:
                    raise PilotError(_oversized(target, most_bytes))
                self._download(mirror, target, path)
            except StoreError as error:
                code = error.code.replace("image.", "artifact.", 1)
                found.append(Failure(error.kind, code, error.message, error.hint, retry=error.temporary))
            except (RepositoryError, DownloadError) as error:
                found.append(self._refused(mirror, error))
            except OSError as error:
                raise PilotError(_no_room(error)) from error
            else:
                return
        if not found:
            message = f"{name} is wanted, and no address says from where"
            raise PilotError(Failure(FailureKind.CONFIG, "artifact.missing", message, "the factory names a mirror"))
        raise PilotError(next((one for one in found if one.kind is FailureKind.CORRUPTION), found[0]))

    def _updater(self, mirror: str) -> Updater:
        """The framework's client of this mirror, up to date. Each begins with the bundle: what one mirror could not
        prove is not held against the next."""
        if mirror not in self._updaters:
            from tuf.ngclient import Updater

            metadata = os.path.join(self._directory, f"metadata-{self._mirrors.index(mirror)}")
            os.makedirs(metadata, mode=0o700, exist_ok=True)
            for role, content in (("timestamp", self._bundle.timestamp), ("snapshot", self._bundle.snapshot)):
                with open(os.path.join(metadata, f"{role}.json"), "wb") as file:
                    file.write(content)
            downloads = _Downloads(self._directory, self._environment, self._end, self._times[mirror])
            fetcher = cast("FetcherInterface", downloads)
            base = mirror.rstrip("/")
            updater = Updater(
                metadata, f"{base}/metadata/", None, f"{base}/targets/", fetcher, bootstrap=self._bundle.root
            )
            updater.refresh()
            self._updaters[mirror] = updater
        return self._updaters[mirror]

    def _download(self, mirror: str, target: TargetFile, path: str) -> None:
        status = os.statvfs(os.path.dirname(path))
        if 2 * target.length > status.f_bavail * status.f_frsize:
            message = f"{target.path} has {target.length} bytes: too many for the disk of {os.path.dirname(path)}"
            hint = "the site frees space in the file system of the pilot's scratch directory"
            raise StoreError("disk.full", NODE, message, hint, temporary=True)
        self._updater(mirror).download_target(target, path)

    def _refused(self, mirror: str, error: Exception) -> Failure:
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
        message = f"what {mirror} publishes {words}: {error}"
        if code == "artifact.expired" and (excuse := self._times[mirror].excuse(mirror)) is not None:
            return excuse
        hint = "the factory publishes again; its timer must run" if code == "artifact.expired" else (
            "the factory finds out who changed what is published, or the site what its proxy keeps"
        )  # fmt: skip
        return Failure(FailureKind.CORRUPTION, code, message, hint)


class _Downloads:
    """What the framework asks for the files of a mirror (its FetcherInterface): bounded in size and time."""

    def __init__(self, directory: str, environment: Mapping[str, str], end: float, times: ServerTime) -> None:
        self._directory = directory
        self._times = times
        self._environment = environment
        self._end = end

    @contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """The file at ``url``, gone afterwards. Raises ``StoreError``, or the framework's error where it is missing."""
        path = os.path.join(self._directory, f"download-{os.urandom(6).hex()}")
        try:
            self._fetch(url, path, max_length)
            with open(path, "rb") as file:
                yield file
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """The content of a file, as above."""
        with self.download_file(url, max_length) as file:
            content = read_bounded(file.name, limit_bytes=max_length)
        self._times.read(content)
        return content

    def _fetch(self, url: str, path: str, most_bytes: int) -> None:
        from tuf.api.exceptions import DownloadHTTPError

        download = Download(
            url=url,
            path=path,
            digest="",
            environment=self._environment,
            end=self._end,
            stall_seconds=STALL_SECONDS,
            image=False,
            plain=True,
            verified=True,
            most_bytes=most_bytes,
        )
        try:
            download.run(lambda *_: None, lambda *_: None)
        except StoreError as error:
            if error.code not in _ABSENT:
                raise
            if url.endswith(f"/{_TIMESTAMP}"):
                raise _no_repository(url, error) from error
            raise DownloadHTTPError(error.message, _ABSENT[error.code]) from error
        finally:
            self._times.hear(download.clock_offset_seconds)


def _no_repository(url: str, error: StoreError) -> StoreError:
    """What is always there where anything is published is not."""
    message = f"{url.removesuffix(f'metadata/{_TIMESTAMP}')} publishes no signed artifacts: {error.message}"
    hint = "the factory corrects artifacts.mirrors, or publishes there with packaging/artifacts.py publish"
    code = "artifact.no_repository" if error.code == "image.missing" else "artifact.unauthorized"
    return StoreError(code, CONFIG, message, hint, temporary=False)


def _unsigned(name: str) -> Failure:
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
