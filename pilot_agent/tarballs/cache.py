"""Fetched tarballs, kept for the next pilot: shared by the pilots of one account, or one pilot's own.

Only tarballs are kept, under their digests, and each pilot unpacks its own from one that it verified: nothing that a
pilot runs can be changed by a job of another, and what is not used any more can be removed while pilots run. A file has
its name only once all of it is there; who fetches one holds its lock, and sweeps what a killed one left. A lock is
removed while it is held, and who gets one looks whether it is still the one of that name.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.trust.local import replaceable_by_others

if TYPE_CHECKING:
    from pilot_agent.tarballs.index import Tarball
    from pilot_agent.tarballs.publication import Publication

WAIT_SECONDS = 0.2
RECENT_SECONDS = 600
_PARTIAL = ".partial-"
_LOCK = ".lock-"
_LOCK_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_END = ".tar"
_DIGEST_LENGTH = 64
_DIGITS = frozenset("0123456789abcdef")
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class TarballCache:
    """A directory with mode 0700 of this account. ``most_bytes`` is what its tarballs may take together: the one that
    was used least recently goes first."""

    directory: str
    most_bytes: int
    publication: Publication

    def get(self, tarball: Tarball, fetch: Callable[[str], None], end: float) -> str:
        """The path of the tarball's file, as ``fetch`` wrote it to the path that it got, now or for an earlier pilot.

        Waits before ``end`` of the monotonic clock for another pilot that is fetching it. Raises ``PilotError``
        (``.cache`` of the publication's code, disk.full, artifact.deadline) and what ``fetch`` raises; nothing is left
        then.
        """
        path = os.path.join(self.directory, tarball.sha256 + _END)
        try:
            self._open()
            lock = self._lock(tarball, end)
            try:
                self._sweep(tarball.sha256)
                if not _is_good(path, tarball):
                    self._make_room(tarball)
                    self._fetch(tarball, path, fetch)
                os.utime(path)
            finally:
                self._remove_lock(tarball.sha256, lock)
        except OSError as error:
            raise self._of_the_system(error) from error
        return path

    def _fetch(self, tarball: Tarball, path: str, fetch: Callable[[str], None]) -> None:
        partial = os.path.join(self.directory, f"{_PARTIAL}{tarball.sha256}.{os.getpid()}.{os.urandom(4).hex()}")
        try:
            fetch(partial)
            os.rename(partial, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(partial)

    def _open(self) -> None:
        with suppress(FileExistsError):
            os.mkdir(self.directory, 0o700)
            os.chmod(self.directory, 0o700)
        status = os.lstat(self.directory)
        problem = replaceable_by_others(self.directory)
        if not stat.S_ISDIR(status.st_mode):
            problem = "it is a link or no directory"
        elif status.st_uid != os.geteuid():
            problem = f"it belongs to the account {status.st_uid}"
        elif status.st_mode & 0o077:
            problem = f"other accounts may look into it (mode {stat.S_IMODE(status.st_mode):o})"
        if problem:
            sort = self.publication
            hint = f"{sort.cache_key} must be a directory of the pilot's own account with mode 0700, no link"
            message = f"{self.directory} is not safe as cache of {sort.name}: {problem}"
            raise self._error(f"{sort.code}.cache", message, hint)

    def _lock(self, tarball: Tarball, end: float) -> int:
        while (descriptor := self._take(tarball.sha256, os.O_CREAT)) is None:
            if time.monotonic() >= end:
                message = f"another pilot was still fetching {tarball.file} when the time for it was used up"
                raise self._error("artifact.deadline", message, "the site looks at the node's way to the server")
            time.sleep(WAIT_SECONDS)
        return descriptor

    def _take(self, digest: str, make: int = 0) -> int | None:
        """Take a tarball's lock, which is made first with ``O_CREAT``; None where another has it, or just removed it.
        Raises ``OSError``."""
        path = os.path.join(self.directory, _LOCK + digest)
        descriptor = os.open(path, _LOCK_FLAGS | make, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                taken, descriptor = descriptor, -1
                return taken
        except (BlockingIOError, FileNotFoundError):
            return None
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        return None

    def _remove_lock(self, digest: str, descriptor: int) -> None:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self.directory, _LOCK + digest))
        os.close(descriptor)

    def _sweep(self, digest: str) -> None:
        """Remove what killed pilots left: who fetches has the lock, and that of ``digest`` is this process's."""
        for name in os.listdir(self.directory):
            kind = next((kind for kind in (_PARTIAL, _LOCK) if name.startswith(kind)), "")
            owner = name.removeprefix(kind)[:_DIGEST_LENGTH]
            if not _is_digest(owner):  # somebody else's: the directory may be one that has other files
                continue
            if kind == _PARTIAL and (owner == digest or not self._is_locked(owner)):
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.directory, name))
            elif kind == _LOCK and owner != digest:
                self._is_locked(owner)

    def _is_locked(self, digest: str) -> bool:
        """Whether a pilot fetches it; a lock that nobody holds is removed."""
        try:
            descriptor = self._take(digest)
        except FileNotFoundError:
            return False
        if descriptor is None:
            return True
        self._remove_lock(digest, descriptor)
        return False

    def _make_room(self, tarball: Tarball) -> None:
        found = []
        for name in os.listdir(self.directory):
            if name.endswith(_END) and _is_digest(name.removesuffix(_END)):
                # Another pilot may have removed it meanwhile.
                with suppress(FileNotFoundError):
                    status = os.lstat(os.path.join(self.directory, name))
                    found.append((status.st_mtime, status.st_size, name))
        total = tarball.size_bytes + sum(size for _, size, _ in found)
        for used, size, name in sorted(found):
            # Another pilot may be about to unpack what was used just now.
            if total <= self.most_bytes or time.time() - used < RECENT_SECONDS:
                break
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(self.directory, name))
            total -= size

    def _of_the_system(self, error: OSError) -> PilotError:
        sort = self.publication
        message = f"the cache of {sort.name} {self.directory} cannot be used: {error.strerror or error}"
        if error.errno in _FULL:
            hint = f"the site frees space in the file system of {sort.cache_key}, or of the pilot's scratch directory"
            return self._error("disk.full", message, hint)
        hint = f"the site makes the directory that {sort.cache_key} names usable"
        return self._error(f"{sort.code}.cache", message, hint)

    def _error(self, code: str, message: str, hint: str) -> PilotError:
        failure = Failure(FailureKind.NODE_RESOURCE, code, message, hint, stage=self.publication.stage, retry=True)
        return PilotError(failure)


def _is_digest(text: str) -> bool:
    return len(text) == _DIGEST_LENGTH and _DIGITS.issuperset(text)


def _is_good(path: str, tarball: Tarball) -> bool:
    """Whether the file is there and what it should be: it may have been damaged since."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size != tarball.size_bytes:
                return False
            return hashlib.file_digest(file, "sha256").hexdigest() == tarball.sha256
    except FileNotFoundError:
        return False
