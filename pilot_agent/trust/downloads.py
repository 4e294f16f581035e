"""How The Update Framework's client gets files: by the pilot's own downloads, bounded in size, time and speed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO

from pilot_agent.containers.store.download import MOST_ATTEMPTS, Download
from pilot_agent.containers.store.errors import CONFIG, StoreError
from pilot_agent.files import read_bounded
from pilot_agent.trust.clock import ServerTime

STALL_SECONDS = 30.0
_ABSENT = {"image.missing": 404, "image.unauthorized": 403}
_TIMESTAMP = "timestamp.json"


class Downloads:
    """What the framework asks for the files of a mirror (its FetcherInterface): bounded in size and time."""

    def __init__(
        self,
        directory: str,
        environment: Mapping[str, str],
        end: float,
        times: ServerTime,
        proxy: str | None,
        *,
        last: bool,
    ) -> None:
        self._directory = directory
        self._environment = environment
        self._end = end
        self._times = times
        self._proxy = proxy
        # Where another can be asked nothing is waited for that may never come.
        self._attempts = MOST_ATTEMPTS if last else 2
        self._stall_seconds = STALL_SECONDS if last else max(1.0, min(STALL_SECONDS, (end - time.monotonic()) / 2))

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
            stall_seconds=self._stall_seconds,
            image=False,
            plain=True,
            verified=True,
            most_bytes=most_bytes,
            attempts=self._attempts,
            proxy=self._proxy,
            elsewhere=False,
            # The one name that comes to mean another content: a cache asks whether it has it still.
            revalidate=url.endswith(f"/{_TIMESTAMP}"),
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
