"""The workspaces that an account has on this node, so that the next pilot finds those that a killed one left.

Batch systems start each job in another directory, so nobody would look where the last one lay. The list is a private
directory with one file for each workspace; whoever removes the last file removes the directory too.
"""

from __future__ import annotations

import fcntl
import os

from pilot_agent.light import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PLACE = "/var/tmp"  # noqa: S108 - of this node and kept over its restart; the directory in it is checked before use
PREFIX = "pilot-agent-"
LIMIT_BYTES = 65536
LISTED = 1000
LOCK_SUFFIX = ".lock"
ATTEMPTS = 20
SERVICE_PREFIX = "service-"
"""Of the files of a service that all pilots of the account share; see ``services.node_endpoint``."""


def enter(root: str, owner: dict[str, Any]) -> None:
    """Write down a workspace that is about to be made at ``root``; nothing happens where the node has no place."""
    content = dumps({"workspace": root, "owner": owner}).encode()
    for _ in range(ATTEMPTS):
        directory = open_directory(make=True)
        if directory is None:
            return
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(os.path.basename(root), flags, 0o600, dir_fd=directory)
        except FileNotFoundError:  # whoever ended just now took the empty directory away
            continue
        except FileExistsError:  # it was cut, and goes on as other processes
            _remove(directory, os.path.basename(root))
            continue
        except OSError:
            return
        finally:
            os.close(directory)
        try:
            os.write(descriptor, content)
            os.fdatasync(descriptor)
        except OSError:  # the disk is full: an entry that nobody can read is passed over
            return
        finally:
            os.close(descriptor)
        return


def strike(root: str) -> None:
    """Take a workspace that is gone off the list."""
    directory = open_directory(make=False)
    if directory is None:
        return
    try:
        os.unlink(os.path.basename(root), dir_fd=directory)
        _remove_stale_services(directory)
    except OSError:  # not on the list
        return
    finally:
        os.close(directory)
    tidy()


def place(*, make: bool) -> str | None:
    """The private directory itself, for what the pilots of an account on this node share; None where there is none, or
    others may reach into it. Whoever leaves it calls ``tidy``."""
    directory = open_directory(make=make)
    if directory is None:
        return None
    os.close(directory)
    return path()


def lock_name(what: str) -> str:
    """The name of a lock file in the private directory, which ``tidy`` takes away when nobody holds it."""
    return what + LOCK_SUFFIX


def tidy() -> None:
    """Remove the private directory once nothing is in it but locks that nobody holds: a pilot that was killed leaves
    its own."""
    directory = open_directory(make=False)
    if directory is None:
        return
    try:
        names = os.listdir(directory)
        if not all(name.endswith(LOCK_SUFFIX) for name in names):
            return
        for name in names:
            descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(name, dir_fd=directory)
            finally:
                os.close(descriptor)
        os.rmdir(path())
    except OSError:  # somebody holds one, or came just now
        return
    finally:
        os.close(directory)


def entries() -> dict[str, Any]:
    """Workspace -> what its pilot wrote of itself; what cannot be read is left out."""
    directory = open_directory(make=False)
    if directory is None:
        return {}
    found = {}
    try:
        for name in sorted(os.listdir(directory))[:LISTED]:
            entry = _read(directory, name)
            if isinstance(entry, dict) and os.path.basename(str(entry.get("workspace"))) == name:
                found[str(entry["workspace"])] = entry.get("owner")
    except OSError:
        return found
    finally:
        os.close(directory)
    return found


def _remove_stale_services(directory: int) -> None:
    """What pilots that were killed left of the services that they ran for all. Raises ``OSError``."""
    names = [name for name in os.listdir(directory)[:LISTED] if name.startswith(SERVICE_PREFIX)]
    for name in names:
        if not name.endswith(LOCK_SUFFIX):
            continue
        try:
            descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # a pilot that lives has it
            continue
        else:
            for other in names:
                if other.startswith(f"{name.removesuffix(LOCK_SUFFIX)}.json"):
                    _remove(directory, other)
            _remove(directory, name)
        finally:
            os.close(descriptor)


def _remove(directory: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except OSError:
        return


def _read(directory: int, name: str) -> Any:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return None
    try:
        return loads(os.read(descriptor, LIMIT_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    finally:
        os.close(descriptor)


def open_directory(*, make: bool) -> int | None:
    """A descriptor of the directory, if it is this account's and nobody else may reach into it."""
    if make:
        try:
            os.mkdir(path(), 0o700)
        except OSError:  # it is there, or cannot be made: both show below
            make = False
    try:
        descriptor = os.open(path(), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        os.close(descriptor)
        return None
    return descriptor


def path() -> str:
    """Where the account's directory is, if it is there."""
    return os.path.join(PLACE, f"{PREFIX}{os.geteuid()}")
