"""What the factory publishes as files: signed repositories, image dictionaries, tarballs. Any web server does as well.

Nobody is told what there is, and nothing is served but plain files below one directory. Names that never come to mean
another content, as those of The Update Framework, are kept by every cache for good; of all others a cache asks after a
minute whether it has them still.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server_stub.factory.live import Live
from server_stub.factory.receive import refusal

PREFIX = "/artifacts"
SIGNED_VERSION = re.compile(r"(?:^|/)metadata/(?:.*/)?[0-9]+\.[^/]+\.json$")
"""Metadata of The Update Framework with its version in its name."""
DIGEST = re.compile(r"(?:^|/)[0-9a-f]{64}[.][^/]+$|(?:^|/)[^/]+[.-][0-9a-f]{64}(?:[.][^/]*)?$")
"""A name with the SHA-256 of what it names."""
FOR_GOOD = "public, max-age=31536000, immutable"
FOR_A_MINUTE = "public, max-age=60, must-revalidate"
MEDIA_TYPES = {".json": "application/json", ".gz": "application/gzip", ".yaml": "application/yaml"}
ANY_TYPE = "application/octet-stream"
RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
PIECE_BYTES = 128 << 10
"""What is read at a time, and what each of many slow clients may hold in memory."""
NOT_CACHED = {errno.EAGAIN, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


@dataclass(frozen=True, slots=True)
class Artifact:
    """An open file, what tells this content from another, and how long who has it need not ask again."""

    descriptor: int
    size: int
    modified: float
    tag: str
    kept: str
    media_type: str


class Artifacts:
    """The ASGI application below ``PREFIX``; serves the directory of the configuration that counts now."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        if scope["method"] not in ("GET", "HEAD"):
            await refusal("files are only read", 405, {"Allow": "GET, HEAD"})(scope, receive, send)
            return
        found = find(self._live.factory.artifacts, _name(scope))
        if found is None:
            # Clients of The Update Framework ask for the next root of trust until there is none: for that, too, a
            # cache need not ask each time.
            gone = refusal("there is no such artifact", 404, {"Cache-Control": FOR_A_MINUTE})
            await gone(scope, receive, send)
            return
        try:
            await _send(found, Headers(scope=scope), scope, receive, send)
        finally:
            os.close(found.descriptor)


def _name(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")).removeprefix("/")


def find(directory: str | None, name: str) -> Artifact | None:
    """The file ``name`` below the directory, open; None for what is none, what is hidden, or what lies elsewhere after
    its links were followed."""
    parts = name.split("/")
    if directory is None or "\0" in name or any(not part or part.startswith(".") for part in parts):
        return None
    try:
        root = os.path.realpath(directory)
        path = os.path.realpath(os.path.join(root, *parts), strict=True)
        if os.path.commonpath((root, path)) != root:
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        return None
    tag = f'"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"'
    kept = FOR_GOOD if SIGNED_VERSION.search(name) or DIGEST.search(name) else FOR_A_MINUTE
    media_type = MEDIA_TYPES.get(os.path.splitext(name)[1], ANY_TYPE)
    return Artifact(descriptor, status.st_size, status.st_mtime, tag, kept, media_type)


async def _send(artifact: Artifact, asked: Headers, scope: Scope, receive: Receive, send: Send) -> None:
    headers = {
        "ETag": artifact.tag,
        "Last-Modified": formatdate(artifact.modified, usegmt=True),
        "Cache-Control": artifact.kept,
        "Accept-Ranges": "bytes",
    }
    if _is_known(artifact, asked):
        await Response(status_code=304, headers=headers)(scope, receive, send)
        return
    part = asked_part(artifact, asked)
    if part is None:
        unsatisfied = {**headers, "Content-Range": f"bytes */{artifact.size}"}
        await refusal("the file has no such range", 416, unsatisfied)(scope, receive, send)
        return
    start, end = part
    headers |= {"Content-Length": str(end - start), "Content-Type": artifact.media_type}
    whole = (start, end) == (0, artifact.size)
    if not whole:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{artifact.size}"
    raw = [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 200 if whole else 206, "headers": raw})
    if scope["method"] == "HEAD":
        end = start
    while start < end:
        piece = await _read(artifact.descriptor, min(PIECE_BYTES, end - start), start)
        start += len(piece)
        if not piece:  # cut off meanwhile: the client sees by the length that it has not all of it
            return
        await send({"type": "http.response.body", "body": piece, "more_body": start < end})
    if scope["method"] == "HEAD" or artifact.size == 0:
        await send({"type": "http.response.body", "body": b""})


async def _read(descriptor: int, size: int, place: int) -> bytes:
    """From the kernel's memory where it is there, otherwise in a thread that may wait for the disk."""
    piece = bytearray(size)
    try:
        return bytes(memoryview(piece)[: os.preadv(descriptor, [piece], place, os.RWF_NOWAIT)])
    except OSError as error:
        if error.errno not in NOT_CACHED:
            raise
    return await run_in_threadpool(os.pread, descriptor, size, place)


def _is_known(artifact: Artifact, asked: Headers) -> bool:
    """Whether the client has this very content (RFC 9110: where both are asked the tag alone counts)."""
    tags = asked.get("if-none-match")
    if tags is not None:
        return tags.strip() == "*" or artifact.tag in (tag.strip().removeprefix("W/") for tag in tags.split(","))
    since = _moment(asked.get("if-modified-since"))
    return since is not None and int(artifact.modified) <= since


def asked_part(artifact: Artifact, asked: Headers) -> tuple[int, int] | None:
    """From which byte to before which; the whole where one range is not asked for, or one of another content; None for
    a range that the file does not have."""
    whole = (0, artifact.size)
    found = RANGE.fullmatch(asked.get("range", "").strip())
    if found is None or not (found[1] or found[2]):
        return whole
    condition = asked.get("if-range")
    if condition is not None and condition.strip() != artifact.tag and _moment(condition) != int(artifact.modified):
        return whole
    if not found[1]:
        start, end = max(0, artifact.size - int(found[2])), artifact.size
    else:
        start, end = int(found[1]), min(artifact.size, int(found[2]) + 1) if found[2] else artifact.size
        if found[2] and int(found[2]) < int(found[1]):
            return whole
    return (start, end) if start < end else None


def _moment(text: str | None) -> int | None:
    try:
        return int(parsedate_to_datetime(text).timestamp()) if text else None
    except (ValueError, TypeError, OverflowError):
        return None
