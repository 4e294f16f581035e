"""A verified tarball becomes a directory: nothing but files and directories below it, and no more than was announced.

The archive's own modes, owners, times and links count for nothing. What was written is compared with the digest of the
tree that the index tells: of one line for each member, sorted by name, ``d NAME`` for a directory, and for a file
``x SHA256 NAME`` when it may be run, else ``f SHA256 NAME``.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tarfile
import time
import zlib
from typing import IO, TYPE_CHECKING

from pilot_agent.model import Failure, FailureKind, PilotError

if TYPE_CHECKING:
    from pilot_agent.startd.artifacts import Tarball

CHUNK_BYTES = 1 << 20
SPARE_BYTES = 16 << 20
"""Room that must be left when all is unpacked, for logs and the first job's scratch directory."""

LONGEST_NAME = 500
_FULL = (errno.ENOSPC, errno.EDQUOT)


def unpack(path: str, directory: str, tarball: Tarball, end: float) -> None:
    """Verify the file and unpack it to ``directory``, which must not exist, before ``end`` of the monotonic clock.

    It has its name only once all of it is there. Raises ``PilotError``: artifact.digest and artifact.content
    (corruption), disk.full and artifact.deadline (node), artifact.unreadable.
    """
    making = f"{directory}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        with open(path, "rb") as file:
            _verify(file, path, tarball, end)
            _require_room(os.path.dirname(directory), tarball)
            file.seek(0)
            _make(making, 0o700)
            digest = _Unpacking(making, tarball, end).run(file)
        if digest != tarball.tree_sha256:
            raise _content(tarball, "it unpacks to something else than the index announces")
        os.rename(making, directory)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise _content(tarball, f"it cannot be read to its end ({error})") from error
    except OSError as error:
        raise _of_the_system(error, tarball) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _verify(file: IO[bytes], path: str, tarball: Tarball, end: float) -> None:
    """Refuse a file that is not, byte for byte, the one that the index names."""
    found = hashlib.sha256()
    size = 0
    while chunk := file.read(CHUNK_BYTES):
        found.update(chunk)
        size += len(chunk)
        _hurry(end, tarball)
        if size > tarball.size_bytes:
            break
    if found.hexdigest() != tarball.sha256 or size != tarball.size_bytes:
        told = (
            f"the digest {found.hexdigest()}" if size == tarball.size_bytes else f"another size, {size} bytes or more"
        )
        message = f"{path} has {told}; the index says {tarball.sha256} of {tarball.size_bytes} bytes"
        hint = "whoever publishes the tarballs finds out who changed the file, and puts the right one there"
        raise PilotError(Failure(FailureKind.CORRUPTION, "artifact.digest", message, hint, stage="handoff"))


class _Unpacking:
    def __init__(self, directory: str, tarball: Tarball, end: float) -> None:
        self._directory = directory
        self._tarball = tarball
        self._end = end
        self._lines: dict[str, str] = {}
        self._bytes = 0

    def run(self, file: IO[bytes]) -> str:
        """Unpack all members; the digest of the tree."""
        with tarfile.open(fileobj=file, mode="r|gz") as archive:
            for member in archive:
                self._admit(member)
                if member.isdir():
                    self._directory_of(member.name)
                else:
                    self._file_of(member, archive)
        return hashlib.sha256("".join(self._lines[name] for name in sorted(self._lines)).encode()).hexdigest()

    def _admit(self, member: tarfile.TarInfo) -> None:
        name = member.name
        if not (member.isdir() or member.isreg()):
            raise _content(self._tarball, f"{name[:100]!r} in it is neither a file nor a directory")
        if name.startswith("/") or any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
            raise _content(self._tarball, f"{name[:100]!r} in it leads out of its directory")
        if name in self._lines or len(name) > LONGEST_NAME:
            raise _content(self._tarball, f"{name[:100]!r} is in it twice, or too long")
        self._bytes += member.size
        if self._bytes > self._tarball.unpacked_bytes or len(self._lines) >= self._tarball.members:
            raise _content(self._tarball, "it holds more than the index announces")
        _hurry(self._end, self._tarball)

    def _directory_of(self, name: str) -> None:
        _make(os.path.join(self._directory, name), 0o755)
        self._lines[name] = f"d {name}\n"

    def _file_of(self, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        runs = bool(member.mode & 0o100)
        found = hashlib.sha256()
        content = archive.extractfile(member)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(os.path.join(self._directory, member.name), flags, 0o700)
        try:
            while content is not None and (chunk := content.read(CHUNK_BYTES)):
                found.update(chunk)
                view = memoryview(chunk)
                while view:
                    view = view[os.write(descriptor, view) :]
                _hurry(self._end, self._tarball)
            os.fchmod(descriptor, 0o755 if runs else 0o644)
        finally:
            os.close(descriptor)
        self._lines[member.name] = f"{'x' if runs else 'f'} {found.hexdigest()} {member.name}\n"


def _make(directory: str, mode: int) -> None:
    os.mkdir(directory, mode)
    os.chmod(directory, mode)  # whatever the umask


def _require_room(directory: str, tarball: Tarball) -> None:
    status = os.statvfs(directory)
    room = status.f_bavail * status.f_frsize
    if room < tarball.unpacked_bytes + SPARE_BYTES:
        message = f"{directory} has {room >> 20} MiB left, and HTCondor {tarball.version} takes "
        message += f"{tarball.unpacked_bytes >> 20} MiB, with {SPARE_BYTES >> 20} MiB to spare"
        raise _full(message)


def _hurry(end: float, tarball: Tarball) -> None:
    if time.monotonic() >= end:
        message = f"{tarball.file} was not unpacked when the time for it was used up"
        hint = "the site looks at the node's disk, or the factory raises startd.condor_fetch_seconds"
        failure = Failure(FailureKind.NODE_RESOURCE, "artifact.deadline", message, hint, stage="handoff", retry=True)
        raise PilotError(failure)


def _of_the_system(error: OSError, tarball: Tarball) -> PilotError:
    message = f"{tarball.file} cannot be unpacked: {error.strerror or error}"
    if error.errno in _FULL:
        return _full(message)
    hint = "the site looks at the file system of the pilot's workspace"
    return PilotError(
        Failure(FailureKind.NODE_RESOURCE, "artifact.unreadable", message, hint, stage="handoff", retry=True)
    )


def _full(message: str) -> PilotError:
    hint = "the site gives the pilot a scratch directory with space left"
    return PilotError(Failure(FailureKind.NODE_RESOURCE, "disk.full", message, hint, stage="handoff", retry=True))


def _content(tarball: Tarball, why: str) -> PilotError:
    hint = "whoever publishes the tarballs makes it anew with packaging/build_condor.py"
    message = f"{tarball.file} is refused: {why}"
    return PilotError(Failure(FailureKind.CORRUPTION, "artifact.content", message, hint, stage="handoff"))
