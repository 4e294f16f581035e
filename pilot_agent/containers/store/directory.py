"""The store's directory, opened so that nobody else can lead it elsewhere: private, and every step relative to a
descriptor that was checked."""

from __future__ import annotations

import fcntl
import os
import stat

from pilot_agent.containers.store.errors import NODE, StoreError, of_the_system
from pilot_agent.trust.local import replaceable_by_others

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

KEY_LENGTH = 64
"""Names in the store are SHA-256 digests of references: nothing of a reference becomes part of a path."""

STORE_LOCK = "store"
"""The lock of what concerns all images: their sizes and the eviction."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_PARTS = ("images", "locks", "leases", "partial", "failures")


class Directory:
    """An open store; use as a context manager.

    ``path`` is physical. ``images`` holds complete images only, ``partial`` what is being made or removed, both under
    names that begin with an image's key; ``locks`` a file for each key; ``leases`` who uses what; ``failures`` what
    could not be had lately. All are descriptors.
    """

    __slots__ = ("failures", "images", "leases", "locks", "partial", "path", "root")

    def __init__(self, path: str, root: int, parts: list[int]) -> None:
        self.path = path
        self.root = root
        self.images, self.locks, self.leases, self.partial, self.failures = parts

    @classmethod
    def open(cls, path: str) -> Self:
        """Open the store at an absolute path; its last component is made when it is missing.

        Raises ``StoreError``: store.unsafe when it is a link, another account's, or writable by others, or when others
        could put something else in its place; store.unusable and disk.full.
        """
        parent, name = os.path.split(path.rstrip("/"))
        path = os.path.join(os.path.realpath(parent), name)
        opened: list[int] = []
        try:
            root = _open_private(path, None, path)
            opened.append(root)
            for part in _PARTS:
                opened.append(_open_private(part, root, f"{path}/{part}"))
        except OSError as error:
            _close(opened)
            raise of_the_system(error, f"the image store {path} cannot be opened") from error
        except StoreError:
            _close(opened)
            raise
        directory = cls(path, root, opened[1:])
        reason = replaceable_by_others(path)
        if reason:
            directory.close()
            raise _unsafe(f"{path} is not safe as image store: {reason}")
        return directory

    def close(self) -> None:
        """Close all descriptors."""
        _close([self.root, self.images, self.locks, self.leases, self.partial, self.failures])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def lock(self, name: str, *, shared: bool) -> int | None:
        """A descriptor that holds the lock until it is closed, or None while somebody else's is in the way.

        Who has it exclusively leaves its process number in the file. Raises ``StoreError``.
        """
        descriptor = None
        try:
            descriptor = os.open(name, _FILE, 0o600, dir_fd=self.locks)
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            if not shared:
                os.pwrite(descriptor, b"%-10d\n" % os.getpid(), 0)
        except BlockingIOError:
            if descriptor is not None:
                os.close(descriptor)
            return None
        except OSError as error:
            if descriptor is not None:
                os.close(descriptor)
            raise of_the_system(error, f"the lock {self.path}/locks/{name} cannot be taken") from error
        return descriptor

    def holder(self, name: str) -> int:
        """The number of the process that last had this lock exclusively; 0 when it is not known."""
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=self.locks)
        except OSError:
            return 0
        try:
            return int(os.read(descriptor, 16) or b"0")
        except (OSError, ValueError):
            return 0
        finally:
            os.close(descriptor)


def _open_private(name: str, parent: int | None, shown: str) -> int:
    try:  # noqa: SIM105 - contextlib costs more than the whole step
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        pass
    try:
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    except NotADirectoryError as error:
        raise _unsafe(f"{shown} is a link or no directory") from error
    status = os.fstat(descriptor)
    problem = ""
    if status.st_uid != os.geteuid():
        problem = f"{shown} belongs to the account {status.st_uid}"
    elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        problem = f"{shown} may be written by other accounts (mode {stat.S_IMODE(status.st_mode):o})"
    if problem:
        os.close(descriptor)
        raise _unsafe(problem)
    if stat.S_IMODE(status.st_mode) != 0o700:
        os.fchmod(descriptor, 0o700)
    return descriptor


def _unsafe(message: str) -> StoreError:
    hint = "containers.store_directory must be a directory of the pilot's own account with mode 0700, no link"
    return StoreError("store.unsafe", NODE, message, hint, temporary=True)


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
