"""A distribution of cvmfsexec: the CVMFS client with its commands, as a private copy in a pilot's workspace.

Private, as a second pilot in one directory would break the first, and the end of one would take the other's mounts. The
layout is that of upstream's ``makedist`` (README of cvmfsexec): ``mountrepo``, ``umountrepo``, and ``dist`` with the
client, its libraries and its configuration; mounts appear below ``dist/cvmfs``, logs in ``log``.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from pilot_agent.cvmfs.rungs import PLAIN_PATH
from pilot_agent.files import read_bounded
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.probes.cvmfs.cvmfs_configuration import is_repository_name, parse_assignments
from pilot_agent.trust.local import writable_by_others

MOUNT, UNMOUNT, CLIENT = "mountrepo", "umountrepo", "dist/usr/bin/cvmfs2"
TAKEN = (MOUNT, UNMOUNT, "cvmfsexec", "singcvmfs", "cvmfs2-wrapper", "dist")
"""What of a distribution's directory is part of it; the rest is what runs of it left."""
REPOSITORIES = "dist/cvmfs"
EMPTIED = (REPOSITORIES, "dist/var/lib/cvmfs", "dist/var/run/cvmfs")
"""What the client fills: mounts, cache, sockets. A copy begins without."""
MOST_MEMBERS = 20_000
MOST_BYTES = 2 << 30
CHUNK_BYTES = 1 << 20
CONFIG_LIMIT_BYTES = 64 << 10
LINK_LETTERS = 500

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution in the directory ``root``, without links in its path: the scripts compare it with the mount
    table."""

    root: str

    @property
    def mountrepo(self) -> str:
        """The command that mounts one repository."""
        return os.path.join(self.root, MOUNT)

    @property
    def umountrepo(self) -> str:
        """The command that unmounts one."""
        return os.path.join(self.root, UNMOUNT)

    @property
    def mount_point(self) -> str:
        """The directory in the place of ``/cvmfs``."""
        return os.path.join(self.root, REPOSITORIES)

    @property
    def local_settings(self) -> str:
        """The client's ``default.local``, which is the pilot's to write."""
        return os.path.join(self.root, "dist/etc/cvmfs/default.local")

    def point(self, repository: str) -> str:
        """Where a repository is mounted."""
        return os.path.join(self.mount_point, repository)

    def log(self, repository: str) -> str:
        """Where the client writes what it says of a repository."""
        return os.path.join(self.root, "log", f"{repository}.log")

    def configuration_repository(self) -> str | None:
        """The repository that says where the others are, and that must be mounted first; None where the distribution
        has none. The last file of ``default.d`` that names one decides, as in the client."""
        directory, found = os.path.join(self.root, "dist/etc/cvmfs/default.d"), ""
        try:
            names = sorted(name for name in os.listdir(directory) if name.endswith(".conf"))
        except OSError:
            return None
        for name in names:
            try:
                content = read_bounded(os.path.join(directory, name), limit_bytes=CONFIG_LIMIT_BYTES)
            except OSError:
                continue
            told = parse_assignments(content.decode("utf-8", "replace"))
            found = told.get("CVMFS_CONFIG_REPOSITORY", found)
        return found if is_repository_name(found) else None


def place_problem(directory: str) -> str:
    """Why no distribution can work in this directory, for the end of a message; empty when nothing is in the way. The
    upstream scripts lose a path with blanks, commas or quotes."""
    real = os.path.realpath(directory)
    if PLAIN_PATH.fullmatch(real):
        return ""
    return f"cvmfsexec cannot work in {real}, a path with blanks, quotes or the like"


def lay_out(source: str, directory: str) -> Distribution:
    """A private copy of ``source``, a directory or a tar archive of it, in ``directory``, which must not exist.

    Mounts, cache and logs of whoever uses the source stay behind, and so do links that lead out of it. May take
    seconds, and hang where the source lies on a file system that does: to be run in a child. Raises ``PilotError``:
    cvmfs.distribution (config) for a source that is missing, not to be trusted or no distribution, disk.full and
    cvmfs.layout (node) where it cannot be written.
    """
    problem = place_problem(directory)
    if problem:
        raise _refused(problem, "the site puts another directory first in site.scratch", FailureKind.NODE_RESOURCE)
    real = os.path.realpath(directory)
    require_trusted(source)
    try:
        os.mkdir(real, 0o700)
        copy = _Copy(source, real)
        if os.path.isdir(source):
            copy.directory()
        else:
            copy.archive()
        for name in (*EMPTIED, "log"):
            os.makedirs(os.path.join(real, name), mode=0o755, exist_ok=True)
    except (tarfile.TarError, EOFError, zlib.error, ValueError, LookupError, RecursionError) as error:
        # What the archive's extended headers and hard links say is whatever somebody wrote.
        _discard(real)
        raise _refused(f"{source} is no tar archive that can be read to its end ({error})", _MADE) from error
    except OSError as error:
        _discard(real)
        raise _unwritten(source, real, error) from error
    except PilotError:
        _discard(real)
        raise
    try:
        _require_complete(source, real)
    except PilotError:
        _discard(real)
        raise
    return Distribution(real)


def require_trusted(source: str) -> None:
    """Refuse what is not there, and what other accounts may change (design section 10). Raises ``PilotError``
    (cvmfs.distribution)."""
    if not os.path.exists(source):
        raise _refused(f"{source} is not there", "whoever set cvmfs.distribution corrects the path")
    paths = [source]
    if os.path.isdir(source):
        paths += [os.path.join(source, name) for name, _ in _members(source)]
    for path in paths:
        reason = "" if os.path.islink(path) else writable_by_others(path)
        if reason:
            hint = "make it root's or this account's and `chmod -R go-w` it"
            raise _refused(f"the distribution {source} is not used: {reason}", hint)


def _require_complete(source: str, root: str) -> None:
    for name in (MOUNT, UNMOUNT, CLIENT):
        path = os.path.join(root, name)
        if not (os.path.isfile(path) and os.access(path, os.X_OK)):
            raise _refused(f"{source} is no distribution of cvmfsexec: it has no program {name}", _MADE)
    try:
        told = read_bounded(os.path.join(root, "dist/.cvmfsexecdist"), limit_bytes=CONFIG_LIMIT_BYTES)
    except OSError:
        return
    if b"disttype: sing" in told:
        raise _refused(f"{source} is made for singcvmfs, and cannot be mounted outside of a container", _MADE)


class _Copy:
    """One copy on its way: what it takes is bounded, and nothing is written outside of ``root``."""

    def __init__(self, source: str, root: str) -> None:
        self._source = source
        self._root = root
        self._members = 0
        self._bytes = 0

    def directory(self) -> None:
        for name, status in _members(self._source):
            path = os.path.join(self._source, name)
            if stat.S_ISDIR(status.st_mode):
                self._directory(name)
            elif stat.S_ISLNK(status.st_mode):
                self._link(name, os.readlink(path))
            elif stat.S_ISREG(status.st_mode):
                with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as content:
                    self._file(name, content, status.st_mode)

    def archive(self) -> None:
        with tarfile.open(self._source, "r:*") as archive:
            for member in archive:
                name = os.path.normpath(member.name)
                if name == ".":
                    continue
                if name.startswith(("/", "..")) or "\0" in name:
                    raise _refused(f"{name[:100]!r} in {self._source} leads out of its directory", _MADE)
                if not _is_part(name):
                    continue
                if member.isdir():
                    self._directory(name)
                elif member.issym():
                    self._link(name, member.linkname)
                elif member.isreg() or member.islnk():
                    # extractfile reads what a hard link stands for, from the archive and never from the disk.
                    content = archive.extractfile(member)
                    if content is not None:
                        self._file(name, content, member.mode)

    def _directory(self, name: str) -> None:
        self._count()
        path = os.path.join(self._root, name)
        self._require_inside(name)
        if not os.path.isdir(path):
            os.makedirs(path, mode=0o755)

    def _link(self, name: str, target: str) -> None:
        self._count()
        whole = os.path.normpath(os.path.join(os.path.dirname(name), target))
        if target.startswith("/") or whole.startswith("..") or len(target) > LINK_LETTERS:
            return
        os.symlink(target, self._made(name))

    def _file(self, name: str, content: IO[bytes], mode: int) -> None:
        self._count()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(self._made(name), flags, 0o700), "wb") as file:
            while chunk := content.read(CHUNK_BYTES):
                self._bytes += len(chunk)
                if self._bytes > MOST_BYTES:
                    raise _refused(f"{self._source} holds more than {MOST_BYTES >> 30} GiB", _MADE)
                file.write(chunk)
            os.fchmod(file.fileno(), 0o755 if mode & 0o100 else 0o644)

    def _made(self, name: str) -> str:
        """The path of a member that is about to be made, with the directories above it."""
        self._require_inside(name)
        path = os.path.join(self._root, name)
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        return path

    def _require_inside(self, name: str) -> None:
        """Refuse a member below a link: where it would be written is not where it says."""
        parts = name.split("/")
        for end in range(1, len(parts)):
            if os.path.islink(os.path.join(self._root, *parts[:end])):
                raise _refused(f"{name[:100]!r} in {self._source} lies below a link", _MADE)

    def _count(self) -> None:
        self._members += 1
        if self._members > MOST_MEMBERS:
            raise _refused(f"{self._source} holds more than {MOST_MEMBERS} files", _MADE)


def _members(source: str) -> Iterator[tuple[str, os.stat_result]]:
    """The names in a distribution's directory with their own status, parents first. Raises ``OSError``."""
    left = [name for name in TAKEN if os.path.lexists(os.path.join(source, name))][::-1]
    while left:
        name = left.pop()
        path = os.path.join(source, name)
        status = os.lstat(path)
        yield name, status
        if stat.S_ISDIR(status.st_mode) and name not in EMPTIED:
            left += [os.path.join(name, entry) for entry in sorted(os.listdir(path), reverse=True)]


def _is_part(name: str) -> bool:
    """Whether a member of an archive belongs to the distribution, and not to what its runs left."""
    below = any(name.startswith(f"{place}/") for place in EMPTIED)
    return name.partition("/")[0] in TAKEN and not below


def _discard(directory: str) -> None:
    shutil.rmtree(directory, ignore_errors=True)


def _unwritten(source: str, directory: str, error: OSError) -> PilotError:
    message = f"the distribution {source} cannot be copied to {directory}: {error.strerror or error}"
    if error.errno in _FULL:
        hint = "the site gives the pilot a scratch directory with space left"
        return PilotError(Failure(FailureKind.NODE_RESOURCE, "disk.full", message, hint, retry=True))
    hint = "the site looks at the file systems of the workspace and of the distribution"
    return PilotError(Failure(FailureKind.NODE_RESOURCE, "cvmfs.layout", message, hint, retry=True))


_MADE = (
    "whoever set cvmfs.distribution names the directory that upstream's makedist was run in, or a tar archive of "
    "`mountrepo umountrepo dist` in it"
)


def _refused(message: str, hint: str, kind: FailureKind = FailureKind.CONFIG) -> PilotError:
    return PilotError(Failure(kind, "cvmfs.distribution", message, hint))
