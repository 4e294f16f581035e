"""Which revision of a repository its server has published, to be compared with the one that the client serves.

Called by the keeper as ``_cvmfs published WAY PATH``; prints one JSON object. The client itself says from which server
and through which proxy it reads, and the question goes the same way. The manifest's signature is not checked: what is
read here tells that a client does not follow its repository, and nothing is trusted because of it.
"""

from __future__ import annotations

import os
import time
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from pilot_agent.light import dumps

MANIFEST = ".cvmfspublished"
MANIFEST_BYTES = 64 << 10
"""A manifest has some hundred bytes and a signature."""
SECONDS = 10.0
PROXIED, ANY = WAYS = ("proxied", "any")
"""Whether the server may be asked without a proxy, where the client does so."""
MOST_DIGITS = 15
_NUMBERS = {"S": "revision", "T": "published", "D": "ttl"}
"""Lines of a manifest that are whole numbers (CernVM-FS documentation, "Manifest") -> what they are called here."""
_DIRECT = "DIRECT"


def main(arguments: list[str]) -> int:
    """Print what the server of the repository whose directory is PATH has published; 0 always."""
    way, path = arguments
    try:
        found = published(path, way)
    except (OSError, HTTPException, ValueError) as error:
        found = {"reason": f"{type(error).__name__}: {error}"[:300]}
    os.write(1, dumps(found).encode())
    return 0


def published(path: str, way: str) -> dict[str, Any]:
    """``revision`` and where they are told ``ttl`` (seconds) and ``age`` (seconds since it was published, by the clocks
    of those who published and sent it); only a ``reason`` where nobody can be asked.

    Raises ``OSError``, ``HTTPException``, ``ValueError`` for a server, a proxy or a mount that does not do its part.
    """
    host, proxy = _attribute(path, "host"), _attribute(path, "proxy") or _DIRECT
    server = urlsplit(host)
    if server.scheme != "http" or not server.hostname:
        return {"reason": f"its client names no server that can be asked by HTTP ({host[:100] or 'none'})"}
    if proxy == _DIRECT and way != ANY:
        return {"reason": "its client uses no proxy, and this pilot asks no server without one (cvmfs.direct)"}
    content, sent = _fetched(f"{host.rstrip('/')}/{MANIFEST}", proxy)
    told = parse_manifest(content)
    name = os.path.basename(path.rstrip("/"))
    if told.pop("name", name) != name:
        return {"reason": "the server sent the manifest of another repository"}
    at = told.pop("published", None)
    if at is not None and sent is not None:
        told["age"] = max(0, sent - at)
    return told


def parse_manifest(content: bytes) -> dict[str, Any]:
    """``revision``, and where it has them ``name``, ``published`` (seconds since 1970) and ``ttl``. Raises
    ``ValueError`` for what is no manifest."""
    found: dict[str, Any] = {}
    for line in content.split(b"\n--")[0].split(b"\n"):
        text = line.decode("ascii", "replace")
        letter, value = text[:1], text[1:]
        if letter == "N":
            found["name"] = value[:255]
        elif letter in _NUMBERS and value.isascii() and value.isdecimal() and len(value) <= MOST_DIGITS:
            found[_NUMBERS[letter]] = int(value)
    if "revision" not in found:
        raise ValueError("what the server sent is no manifest of a repository")
    return found


def _fetched(url: str, proxy: str) -> tuple[bytes, int | None]:
    """The file, and when it was sent, in seconds since 1970, where that is told."""
    end = time.monotonic() + SECONDS
    through = urlsplit(url if proxy == _DIRECT else proxy)
    if through.scheme != "http" or not through.hostname:
        raise ValueError("its client uses a proxy that is not asked by plain HTTP")
    connection = HTTPConnection(through.hostname, through.port or 80, timeout=SECONDS)
    try:
        asked = urlsplit(url)
        target = f"{asked.path}?{asked.query}" if asked.query else asked.path
        connection.request("GET", target if proxy == _DIRECT else url, headers={"Host": asked.netloc})
        answer = connection.getresponse()
        if answer.status != 200:
            raise ValueError(f"HTTP status {answer.status}")
        content = b""
        while len(content) < MANIFEST_BYTES and (chunk := answer.read1(MANIFEST_BYTES - len(content))):
            content += chunk
            if time.monotonic() > end:
                raise TimeoutError(f"it took longer than {SECONDS:g} s")
        return content, _moment(answer.headers.get("Date", ""))
    finally:
        connection.close()


def _moment(text: str) -> int | None:
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None


def _attribute(path: str, name: str) -> str:
    """What the client tells under this name; empty where it does not."""
    try:
        return os.getxattr(path, f"user.{name}")[:4096].decode("utf-8", "replace").strip()
    except OSError:
        return ""
