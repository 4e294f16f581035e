"""Scores kept on the node, so that the pilots of an account measure once, and one at a time.

What is found there is believed only where it is this account's own, nobody else may write it, and it says for itself
that it is the score that is looked for.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import replace

from pilot_agent.codec import CodecError, from_json, to_json
from pilot_agent.files import write_json
from pilot_agent.lifecycle import node_list
from pilot_agent.light import sha256_hex
from pilot_agent.model import BenchmarkScore, Json

SCHEMA = "pilot-agent/benchmark-score/1"
DIRECTORY = "benchmarks"
MOST_FILES = 64
LIMIT_BYTES = 1 << 16
DAY_SECONDS = 86400.0
CLOCK_SECONDS = 300.0
"""A score from the future by more than this was written with another clock, or by hand."""
LOOK_SECONDS = 0.2


class Kept:
    """The scores in a directory; without one (``None``, or one that cannot be trusted) nothing is kept."""

    def __init__(self, directory: str | None) -> None:
        self._directory = directory

    @classmethod
    def of(cls, configured: str | None) -> Kept:
        """Those below the account's own directory of the node, or in the one that the configuration names."""
        if configured is not None:
            return cls(configured)
        place = node_list.place(make=True)
        return cls(os.path.join(place, DIRECTORY) if place is not None else None)

    def find(self, key: Json, days: float) -> BenchmarkScore | None:
        """The score that was kept for ``key`` within the last ``days``; None where there is none to be believed."""
        if self._directory is None or days <= 0 or not _own_directory(self._directory):
            return None
        found = _read(os.path.join(self._directory, _name(key)))
        if found is None or found[0] != json.loads(json.dumps(key)):
            return None
        score = found[1]
        age = time.time() - (score.measured or 0.0)
        if not -CLOCK_SECONDS <= age <= days * DAY_SECONDS:
            return None
        return replace(score, cached=True)

    def keep(self, key: Json, score: BenchmarkScore) -> str:
        """Keep a score; empty, or why it could not be kept."""
        if self._directory is None:
            return "the account has no directory of its own on this node"
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            if not _own_directory(self._directory):
                return f"{self._directory} belongs to others, or they may write there"
            _make_room(self._directory)
            document = {"schema": SCHEMA, "key": key, "score": to_json(score)}
            write_json(os.path.join(self._directory, _name(key)), document)
        except OSError as error:
            return f"{self._directory}: {error.strerror}"
        return ""


@contextlib.contextmanager
def alone(name: str, seconds: float) -> Iterator[bool]:
    """Whether this is the only pilot of the account on the node that runs the benchmark ``name``, after waiting for up
    to ``seconds``; until the end of the block nobody else does. A node without a place for locks grants it to all."""
    place = node_list.place(make=True)
    if place is None:
        yield True
        return
    path = os.path.join(place, node_list.lock_name(f"benchmark-{sha256_hex(name.encode())[:16]}"))
    end = time.monotonic() + seconds
    descriptor: int | None = _locked(path)
    while descriptor is None and time.monotonic() < end:
        time.sleep(LOOK_SECONDS)
        descriptor = _locked(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.unlink(path)
                os.close(descriptor)
            node_list.tidy()


def _locked(path: str) -> int | None:
    """A descriptor that holds the lock, -1 where the file system has none; None when another process holds it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return -1
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Who held it before took the file away: then this lock keeps nobody out.
        if os.stat(path).st_ino == os.fstat(descriptor).st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(descriptor)
        return -1
    os.close(descriptor)
    return None


def _name(key: Json) -> str:
    return sha256_hex(json.dumps(key, sort_keys=True).encode())[:32] + ".json"


def _own_directory(path: str) -> bool:
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _read(path: str) -> tuple[Json, BenchmarkScore] | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        whole = stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_size <= LIMIT_BYTES
        if not whole or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            return None
        content = file.read(LIMIT_BYTES)
    try:
        document = json.loads(content)
        if document["schema"] != SCHEMA:
            return None
        score = from_json(BenchmarkScore, document["score"])
    except (ValueError, CodecError, KeyError, TypeError, RecursionError):
        return None
    return (document["key"], score) if score.status == "ok" and score.score is not None else None


def _make_room(directory: str) -> None:
    """Leave place for one more: the oldest go first, and what an interrupted writer left."""
    files = [entry for entry in os.scandir(directory) if entry.is_file(follow_symlinks=False)]
    files.sort(key=lambda entry: entry.stat(follow_symlinks=False).st_mtime)
    old = time.time() - DAY_SECONDS
    gone = [entry for entry in files if entry.name.endswith(".new") and entry.stat().st_mtime < old]
    for entry in [*gone, *files[: max(0, len(files) - MOST_FILES + 1)]]:
        with contextlib.suppress(OSError):
            os.unlink(entry.path)
