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
    from pilot_agent.tarballs.index import Tarball
    from pilot_agent.tarballs.publication import Publication

CHUNK_BYTES = 1 << 20
SPARE_BYTES = 16 << 20
"""Room that must be left when all is unpacked, for logs and the first job's scratch directory."""

LONGEST_NAME = 500
_FULL = (errno.ENOSPC, errno.EDQUOT)


def unpack(path: str, directory: str, tarball: Tarball, publication: Publication, end: float) -> None:
    """Verify the file and unpack it to ``directory``, which must not exist, before ``end`` of the monotonic clock.

    It has its name only once all of it is there. Raises ``PilotError``: artifact.digest and artifact.content
    (corruption), disk.full and artifact.deadline (node), artifact.unreadable.
    """
    unpacking = _Unpacking(tarball, publication, end)
    making = f"{directory}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        with open(path, "rb") as file:
            unpacking.verify(file, path)
            unpacking.require_room(os.path.dirname(directory))
            file.seek(0)
            _make(making, 0o700)
            digest = unpacking.run(file, making)
        if digest != tarball.tree_sha256:
            raise unpacking.content("it unpacks to something else than the index announces")
        os.rename(making, directory)
    except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:  # extended headers may hold anything
        raise unpacking.content(f"it cannot be read to its end ({error})") from error
    except OSError as error:
        raise unpacking.of_the_system(error) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)


class _Unpacking:
    def __init__(self, tarball: Tarball, publication: Publication, end: float) -> None:
        self._tarball = tarball
        self._publication = publication
        self._end = end
        self._directory = ""
        self._lines: dict[str, str] = {}
        self._bytes = 0

    def run(self, file: IO[bytes], directory: str) -> str:
        """Unpack all members into the directory; the digest of the tree."""
        self._directory = directory
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
            raise self.content(f"{name[:100]!r} in it is neither a file nor a directory")
        if name.startswith("/") or any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
            raise self.content(f"{name[:100]!r} in it leads out of its directory")
        if "\n" in name:  # it would be two lines of the tree
            raise self.content(f"{name[:100]!r} in it has an end of a line")
        if name in self._lines or len(name) > LONGEST_NAME:
            raise self.content(f"{name[:100]!r} is in it twice, or too long")
        self._bytes += member.size
        if self._bytes > self._tarball.unpacked_bytes or len(self._lines) >= self._tarball.members:
            raise self.content("it holds more than the index announces")
        self._hurry()

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
                self._hurry()
            os.fchmod(descriptor, 0o755 if runs else 0o644)
        finally:
            os.close(descriptor)
        self._lines[member.name] = f"{'x' if runs else 'f'} {found.hexdigest()} {member.name}\n"

    def verify(self, file: IO[bytes], path: str) -> None:
        """Refuse a file that is not, byte for byte, the one that the index names."""
        found = hashlib.sha256()
        size, announced = 0, self._tarball.size_bytes
        while chunk := file.read(CHUNK_BYTES):
            found.update(chunk)
            size += len(chunk)
            self._hurry()
            if size > announced:
                break
        if found.hexdigest() != self._tarball.sha256 or size != announced:
            told = f"the digest {found.hexdigest()}" if size == announced else f"another size, {size} bytes or more"
            message = f"{path} has {told}, and the index says {self._tarball.sha256} of {announced} bytes"
            hint = "whoever publishes the tarballs finds out who changed the file, and puts the right one there"
            raise self._error(FailureKind.CORRUPTION, "artifact.digest", message, hint)

    def require_room(self, directory: str) -> None:
        """Refuse where the disk has no room for what was announced."""
        status = os.statvfs(directory)
        room, needed = status.f_bavail * status.f_frsize, self._tarball.unpacked_bytes
        if room < needed + SPARE_BYTES:
            message = f"{directory} has {room >> 20} MiB left, and {self._tarball.file} takes {needed >> 20} MiB, "
            raise self._full(f"{message}with {SPARE_BYTES >> 20} MiB to spare")

    def content(self, why: str) -> PilotError:
        """The error of a tarball whose content is not what it should be."""
        hint = f"whoever publishes the tarballs makes it anew with {self._publication.tool}"
        message = f"{self._tarball.file} is refused: {why}"
        return self._error(FailureKind.CORRUPTION, "artifact.content", message, hint)

    def of_the_system(self, error: OSError) -> PilotError:
        """The error that the file system means."""
        message = f"{self._tarball.file} cannot be unpacked: {error.strerror or error}"
        if error.errno in _FULL:
            return self._full(message)
        hint = "the site looks at the file system of the pilot's workspace"
        return self._error(FailureKind.NODE_RESOURCE, "artifact.unreadable", message, hint)

    def _hurry(self) -> None:
        if time.monotonic() >= self._end:
            message = f"{self._tarball.file} was not unpacked when the time for it was used up"
            hint = f"the site looks at the node's disk, or the factory raises {self._publication.seconds_key}"
            raise self._error(FailureKind.NODE_RESOURCE, "artifact.deadline", message, hint)

    def _full(self, message: str) -> PilotError:
        hint = "the site gives the pilot a scratch directory with space left"
        return self._error(FailureKind.NODE_RESOURCE, "disk.full", message, hint)

    def _error(self, kind: FailureKind, code: str, message: str, hint: str) -> PilotError:
        retry = kind is FailureKind.NODE_RESOURCE
        return PilotError(Failure(kind, code, message, hint, stage=self._publication.stage, retry=retry))


def _make(directory: str, mode: int) -> None:
    os.mkdir(directory, mode)
    os.chmod(directory, mode)  # whatever the umask
