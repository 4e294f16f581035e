"""What is in the store: complete images with what is known of them, their sizes, the order of their last use."""

from __future__ import annotations

import os
import stat
import time

from pilot_agent.containers.store import failures, leases
from pilot_agent.containers.store.directory import KEY_LENGTH, STORE_LOCK
from pilot_agent.containers.store.errors import NODE, StoreError, of_the_system
from pilot_agent.lifecycle.identity import whole
from pilot_agent.light import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pilot_agent.containers.store.directory import Directory

FILE, DIRECTORY = "file", "directory"
"""The two forms of an image in the store, each with its name there."""
NAMES = {FILE: "image.sif", DIRECTORY: "image"}

ABOUT = "about.json"
MIB = 1 << 20
RESERVE_BYTES = 64 * MIB
"""What is left free on the file system: others need room for their logs too."""

_ABOUT_LIMIT_BYTES = 1 << 16


class Entry:
    """A complete image. ``size`` is what it takes on disk, in bytes; ``digest`` may be empty; ``fetched`` and ``used``
    are times of the epoch; ``proven`` says with which runtimes a program ran in it."""

    __slots__ = ("digest", "fetched", "form", "key", "proven", "reference", "size", "used")

    def __init__(
        self, key: str, reference: str, form: str, digest: str, size: int = 0, proven: tuple[str, ...] = ()
    ) -> None:
        self.key = key
        self.reference = reference
        self.form = form
        self.digest = digest
        self.size = size
        self.proven = proven
        self.fetched = self.used = time.time()

    def path(self, directory: Directory) -> str:
        """Where the runtime finds it."""
        return f"{directory.path}/images/{self.key}/{NAMES[self.form]}"

    def to_json(self) -> dict[str, Any]:
        """What ``about.json`` says."""
        return {name: getattr(self, name) for name in self.__slots__ if name not in ("key", "used")}


def read(directory: Directory, key: str) -> Entry | None:
    """The image of this key; None when it is not there or not whole."""
    try:
        about = os.open(f"{key}/{ABOUT}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory.images)
        try:
            data, used = loads(os.read(about, _ABOUT_LIMIT_BYTES)), os.fstat(about).st_mtime
        finally:
            os.close(about)
        entry = Entry(
            key,
            str(data["reference"]),
            str(data["form"]),
            str(data["digest"]),
            whole(data["size"]),
            tuple(data["proven"]),
        )
        entry.fetched, entry.used = float(data["fetched"]), used
        status = os.stat(f"{key}/{NAMES[entry.form]}", dir_fd=directory.images, follow_symlinks=False)
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    if entry.form == FILE:
        complete = stat.S_ISREG(status.st_mode) and status.st_size == entry.size
    else:
        complete = stat.S_ISDIR(status.st_mode)
    return entry if complete else None


def everything(directory: Directory) -> list[Entry]:
    """All complete images, the one that was not used for longest first."""
    keys = [name for name in os.listdir(directory.images) if len(name) == KEY_LENGTH]
    found = [entry for key in keys if (entry := read(directory, key)) is not None]
    return sorted(found, key=lambda entry: entry.used)


def touch(directory: Directory, key: str) -> None:
    """Note that the image was used now."""
    try:
        os.utime(f"{key}/{ABOUT}", dir_fd=directory.images, follow_symlinks=False)
    except OSError:  # the order of eviction is all that suffers
        return


def write_about(parent: int, prefix: str, entry: Entry) -> None:
    """Write ``about.json`` below the descriptor ``parent``, and wait until it is on the disk. Raises ``OSError``."""
    new = f"{prefix}/{ABOUT}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(new, flags, 0o600, dir_fd=parent)
    try:
        content = memoryview(dumps(entry.to_json()).encode())
        while content:
            content = content[os.write(descriptor, content) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(new, f"{prefix}/{ABOUT}", src_dir_fd=parent, dst_dir_fd=parent)


def install(directory: Directory, partial: str, entry: Entry) -> None:
    """Make ``partial/NAME/entry`` the image of its key, in one step. The caller has the key's lock exclusively.

    Raises ``OSError``, and then the store is what it was.
    """
    prefix = f"{partial}/entry"
    write_about(directory.partial, prefix, entry)
    discard(directory, entry.key)
    os.rename(prefix, entry.key, src_dir_fd=directory.partial, dst_dir_fd=directory.images)
    os.fsync(directory.images)


def discard(directory: Directory, key: str) -> None:
    """Take an image out of the store. The caller has the key's lock exclusively. Raises ``OSError``."""
    doomed = f"{key}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        os.rename(key, doomed, src_dir_fd=directory.images, dst_dir_fd=directory.partial)
    except FileNotFoundError:
        return
    os.fsync(directory.images)
    remove_tree(directory.partial, doomed)


def make_room(directory: Directory, size: int, limit_mib: int | None, *, keep: str, there: int = 0) -> None:
    """Evict images that nobody uses, the longest unused first, until an image of ``size`` bytes fits below the limit,
    and on the disk what is not ``there`` yet of it. ``keep`` is its key.

    Raises ``StoreError`` (store.image_too_large, store.full, disk.full), all temporary.
    """
    limit = limit_mib * MIB if limit_mib else None
    if limit is not None and size > limit:
        message = f"the image takes {size // MIB} MiB, and the image store may hold {limit_mib} MiB"
        hint = "the site raises containers.store_mib, or the VO makes the image smaller"
        raise StoreError("store.image_too_large", NODE, message, hint, temporary=True)
    with _Waiting(directory):
        entries = [entry for entry in everything(directory) if entry.key != keep]
        total = sum(entry.size for entry in entries)
        for entry in (*entries, None):
            over = limit is not None and total + size > limit
            free = _free(directory)
            if not over and free >= size - there + RESERVE_BYTES:
                return
            if entry is None:
                break
            if evict_one(directory, entry.key):
                total -= entry.size
    if over:
        message = (
            f"the image takes {size // MIB} MiB, and {total // MIB} of the image store's {limit_mib} MiB are in use"
        )
        raise StoreError("store.full", NODE, message, "the site raises containers.store_mib", temporary=True)
    message = f"{(size - there) // MIB} MiB are needed and {free // MIB} MiB are free in {directory.path}"
    message += f", of which {RESERVE_BYTES // MIB} MiB are left to others"
    hint = "the site frees space, or names a larger file system in containers.store_directory"
    raise StoreError("disk.full", NODE, message, hint, temporary=True)


def evict_one(directory: Directory, key: str) -> bool:
    """Remove an image unless somebody uses it; whether it was removed. Raises ``StoreError``."""
    lock = directory.lock(key, shared=False)
    if lock is None:
        return False
    try:
        if leases.in_use(directory, key):
            return False
        discard(directory, key)
    except OSError as error:
        raise of_the_system(error, "an image cannot be removed from the store") from error
    finally:
        os.close(lock)
    return True


def sweep(directory: Directory, mine: str) -> int:
    """Remove what killed fetches and removals left, and say how many; ``mine`` is the key whose lock the caller has.

    Also drops the leases of processes that are gone, and old failures.
    """
    leases.leased(directory)
    failures.sweep(directory)
    swept = 0
    for name in os.listdir(directory.partial):
        key = name[:KEY_LENGTH]
        lock = None if key == mine else directory.lock(key, shared=False)
        if lock is None and key != mine:
            continue
        swept += remove_tree(directory.partial, name)
        if lock is not None:
            os.close(lock)
    return swept


def remove_tree(parent: int, name: str) -> bool:
    """Remove a tree below a descriptor, never through a link; whether it is gone. What an image's own modes forbid to
    remove is first permitted, as far as this account may."""
    import shutil

    for _ in range(2):
        try:
            shutil.rmtree(name, dir_fd=parent)
        except FileNotFoundError:
            return True
        except OSError:
            for _, _, _, descriptor in _walk(name, parent):
                os.fchmod(descriptor, 0o700)
        else:
            return True
    return False


def _walk(name: str, parent: int) -> Iterator[tuple[str, list[str], list[str], int]]:
    """``os.fwalk`` over directories that may be closed to their owner: each is opened up before it is entered."""
    try:
        os.chmod(name, 0o700, dir_fd=parent)
    except OSError:
        return
    for top, names, files, descriptor in os.fwalk(name, dir_fd=parent, follow_symlinks=False):
        for inner in names:
            try:
                if stat.S_ISDIR(os.stat(inner, dir_fd=descriptor, follow_symlinks=False).st_mode):
                    os.chmod(inner, 0o700, dir_fd=descriptor)
            except OSError:
                continue
        yield top, names, files, descriptor


def _free(directory: Directory) -> int:
    status = os.fstatvfs(directory.root)
    return status.f_bavail * status.f_frsize


class _Waiting:
    """The lock of the whole store, which everybody has for a moment only."""

    __slots__ = ("_descriptor", "_directory")

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._descriptor = -1

    def __enter__(self) -> None:
        end = time.monotonic() + 60
        while (descriptor := self._directory.lock(STORE_LOCK, shared=False)) is None:
            if time.monotonic() > end:
                pid = self._directory.holder(STORE_LOCK)
                hint = "the site looks why that process does not go on"
                message = f"process {pid} has the lock of the image store"
                raise StoreError("store.busy", NODE, message, hint, temporary=True)
            time.sleep(0.02)
        self._descriptor = descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
