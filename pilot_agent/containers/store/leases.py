"""Leases: which process uses which image. A process that is dead holds nothing, however it died."""

from __future__ import annotations

import errno
import os
import time

from pilot_agent.containers.store.directory import KEY_LENGTH
from pilot_agent.containers.store.errors import NO_HOLDER, NODE, StoreError, of_the_system
from pilot_agent.lifecycle.identity import Identity, boot_id, identify, own_pid_namespace, still_same
from pilot_agent.light import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pilot_agent.containers.store.directory import Directory

ELSEWHERE_SECONDS = 4 * 86400
"""How long a lease counts whose process cannot be looked for from here: that of another node or PID namespace."""

STARTER_LOCK = "starter."
"""How the names of the locks begin that jobs' starters hold; see ``pilot_agent.startd.confinement``."""

NEW_SECONDS = 60

_LIMIT_BYTES = 4096
_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def lend(directory: Directory, key: str, pid: int, lock: str = "") -> None:
    """Note that ``pid`` uses the image until it ends. The caller has the lock of the key.

    ``lock`` is the name of a lock of this store that is held as long as the process lives: without one nobody in
    another PID namespace could tell.

    Raises ``StoreError`` (store.no_holder when there is no such process).
    """
    holder = identify(pid)
    if holder is None:
        hint = "the hook names its own starter, which lives as long as the job"
        message = f"process {pid}, which would use the image, is gone"
        raise StoreError(NO_HOLDER, NODE, message, hint, temporary=True)
    name = f"{key}.{pid}.{holder.start_ticks}"
    content = dumps(
        {"holder": holder.to_json(), "node": os.uname().nodename, "time": int(time.time()), "lock": lock}
    ).encode()
    unfinished = f".{name}"
    try:
        descriptor = os.open(unfinished, _NEW, 0o600, dir_fd=directory.leases)
        try:
            if os.write(descriptor, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)
        os.rename(unfinished, name, src_dir_fd=directory.leases, dst_dir_fd=directory.leases)
    except OSError as error:
        raise of_the_system(error, "a lease of the image cannot be written") from error


def give_back(directory: Directory, key: str, pid: int) -> None:
    """Drop the leases that ``pid`` has on the image."""
    for name in _names(directory):
        if name.startswith(f"{key}.{pid}."):
            _remove(directory, name)


def leased(directory: Directory) -> set[str]:
    """The keys of all images that somebody uses; leases of dead processes are dropped.

    A lease that was written after this look is missing: only the lock of a key makes its answer final.
    """
    found = set()
    for name in os.listdir(directory.locks):
        # A lock that was made just now may not be held yet.
        if _is_starters(name) and time.time() - _made(directory, name) > NEW_SECONDS:
            _locked(directory, name)
    for name in _names(directory):
        if _counts(directory, name):
            found.add(name[:KEY_LENGTH])
        else:
            _remove(directory, name)
    return found


def in_use(directory: Directory, key: str) -> bool:
    """Whether a living process has a lease on the image; final when the caller has the lock of the key."""
    return any(_counts(directory, name) for name in _names(directory) if name.startswith(f"{key}."))


def _counts(directory: Directory, name: str) -> bool:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory.leases)
        try:
            content = os.read(descriptor, _LIMIT_BYTES)
        finally:
            os.close(descriptor)
    except OSError:
        return False
    try:
        data = loads(content)
        holder, node, written = Identity.from_json(data["holder"]), str(data["node"]), float(data["time"])
        lock = str(data.get("lock", ""))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return False
    if _is_starters(lock) and holder.boot_id == boot_id():
        return _locked(directory, lock)
    return lives(holder, node, written)


def _made(directory: Directory, name: str) -> float:
    try:
        return os.stat(name, dir_fd=directory.locks, follow_symlinks=False).st_mtime
    except OSError:
        return time.time()


def _locked(directory: Directory, name: str) -> bool:
    """Whether a starter holds its lock; one that nobody holds any more is removed."""
    if name not in os.listdir(directory.locks):
        return False
    descriptor = directory.lock(name, shared=True)
    if descriptor is None:
        return True
    os.close(descriptor)
    try:  # noqa: SIM105 - contextlib costs more than the whole step
        os.unlink(name, dir_fd=directory.locks)
    except OSError:
        pass
    return False


def _is_starters(lock: str) -> bool:
    """Whether a name can be that of a starter's lock: of a file's name only, as a lease may be damaged."""
    rest = lock.removeprefix(STARTER_LOCK)
    return rest != lock and 0 < len(rest) <= 100 and set(rest) <= _NAME_CHARACTERS


def lives(holder: Identity, node: str, written: float) -> bool:
    """Whether a process may still be there: looked at where that is possible, else judged by the lease's age."""
    boot, namespace = boot_id(), own_pid_namespace()
    if holder.boot_id == boot and holder.pid_namespace == namespace:
        return still_same(holder)
    if holder.boot_id != boot and node == os.uname().nodename:
        return False  # this node was booted since
    return time.time() - written < ELSEWHERE_SECONDS


def _names(directory: Directory) -> list[str]:
    return [name for name in os.listdir(directory.leases) if not name.startswith(".")]


def _remove(directory: Directory, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory.leases)
    except OSError:  # somebody else dropped it; or it stays and counts for nothing
        return
