"""What a source of entries says, from a file or over HTTPS: never more than so much, never longer than so long."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pilot_agent.files import read_bounded
from pilot_agent.model import Failure, FailureKind, PilotError

if TYPE_CHECKING:
    import requests

LIMIT_BYTES = 256 << 20
DEADLINE_SECONDS = 300.0
SILENT_SECONDS = 60.0
CONNECT_SECONDS = 20.0
MOST_REDIRECTS = 5
PIECE_BYTES = 1 << 16
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def content_of(
    place: str,
    *,
    authorities: str | None = None,
    limit_bytes: int = LIMIT_BYTES,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> bytes:
    """What a file holds or an address beginning with ``https://`` answers. ``authorities`` is a file with the
    certificates that may have signed the server's, else those of the system.

    Raises ``PilotError``: config.unreadable for a file, usage for another kind of address, source.unreachable.
    """
    if not ADDRESS.match(place):
        return _file(place, limit_bytes)
    if not place.lower().startswith("https://"):
        message = f"{place} is not taken: entries decide where pilots run, so nobody on the way may change them"
        hint = "give an https:// address, or fetch it yourself and name the file; whoever gave the command must act"
        raise PilotError(Failure(FailureKind.USAGE, "usage", message, hint))
    return _fetched(place, authorities, limit_bytes, deadline_seconds)


def _file(path: str, limit_bytes: int) -> bytes:
    try:
        content = read_bounded(path, limit_bytes=limit_bytes + 1)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise PilotError(Failure(FailureKind.CONFIG, "config.unreadable", message, "name an existing file")) from error
    if len(content) > limit_bytes:
        message = f"{path} is larger than {limit_bytes} bytes"
        raise PilotError(Failure(FailureKind.CONFIG, "config.unreadable", message, "give the part that is needed"))
    return content


def _fetched(address: str, authorities: str | None, limit_bytes: int, deadline_seconds: float) -> bytes:
    import requests

    until = time.monotonic() + deadline_seconds
    try:
        with requests.Session() as session:
            session.max_redirects = MOST_REDIRECTS
            answer = session.get(
                address,
                verify=authorities or True,
                timeout=(CONNECT_SECONDS, min(SILENT_SECONDS, deadline_seconds)),
                stream=True,
                headers={"Accept": "application/json"},
            )
            with answer:
                _judge(address, answer)
                return b"".join(_pieces(address, answer, limit_bytes, until))
    except (requests.RequestException, OSError) as error:
        raise _unreachable(address, f"{type(error).__name__}: {error}") from error


def _judge(address: str, answer: requests.Response) -> None:
    plain = [one.url for one in (*answer.history, answer) if not one.url.startswith("https://")]
    if plain:
        raise _unreachable(address, f"it leads to {plain[0]}, which is not https")
    if answer.status_code != 200:
        raise _unreachable(address, f"it answered {answer.status_code}")


def _pieces(address: str, answer: requests.Response, limit_bytes: int, until: float) -> Iterator[bytes]:
    size = 0
    for piece in answer.iter_content(PIECE_BYTES):
        size += len(piece)
        if size > limit_bytes:
            raise _unreachable(address, f"it answered more than {limit_bytes} bytes")
        if time.monotonic() > until:
            raise _unreachable(address, "it did not come to its end in time")
        yield piece


def _unreachable(address: str, said: str) -> PilotError:
    message = f"{address} gave nothing that is taken: {said}"
    hint = "see whether it answers from here, or fetch it yourself and name the file; the factory's operator must act"
    return PilotError(Failure(FailureKind.NETWORK, "source.unreachable", message, hint, retry=True))
