"""Remove a directory tree and nothing else: by descriptors, following no link, entering no mount.

Jobs of strangers wrote into this tree, and some may have tried to point out of it. Every step works relative to
a descriptor that was opened without following links and whose mount was compared with that of the root.
"""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from pilot_agent.lifecycle.budget import Budget

OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
DEEPEST = 40
TOO_DEEP = 200
"""What could not be lifted for so many levels stays: each of them costs a descriptor and a piece of the stack."""
LEFTOVERS_NAMED = 20


class NotOurs(Exception):  # noqa: N818 - a refusal, with the reason as its text
    """The directory is not one that this program made."""


class _Removal:
    """One tree on its way out."""

    __slots__ = ("budget", "leftovers", "mount", "moved", "path", "root", "skipped")

    def __init__(self, path: str, root: int, budget: Budget) -> None:
        self.path = path
        self.root = root
        self.mount = _mount_of(root)
        self.budget = budget
        self.leftovers: list[dict[str, Any]] = []
        self.skipped = 0
        self.moved = 0

    def note(self, where: str, cause: str) -> None:
        if len(self.leftovers) < LEFTOVERS_NAMED:
            self.leftovers.append({"kind": "path", "path": where, "cause": cause})
        else:
            self.skipped += 1

    def empty(self, directory: int, where: str, depth: int, keep: Collection[str] = ()) -> None:
        """Remove everything in an open directory, except the names in ``keep``."""
        _make_writable(directory)
        try:
            with os.scandir(directory) as found:
                entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
        except OSError as error:
            self.note(where, _cause(error))
            return
        for name, is_directory in entries:
            if name in keep:
                continue
            if self.budget.left() <= 0:
                self.note(where, "no time was left to remove it")
                return
            if is_directory:
                self._directory(directory, name, f"{where}/{name}", depth)
            else:
                self._unlink(directory, name, f"{where}/{name}")

    def _unlink(self, parent: int, name: str, where: str) -> None:
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except OSError as error:
            self.note(where, _cause(error))

    def _directory(self, parent: int, name: str, where: str, depth: int) -> None:
        if depth >= DEEPEST and self._lift(parent, name):
            return
        if depth >= TOO_DEEP:
            self.note(where, "it is too deep, and cannot be moved")
            return
        try:
            child = _open(parent, name)
        except FileNotFoundError:
            return
        except OSError as error:
            self.note(where, _cause(error))
            return
        try:
            if _mount_of(child) != self.mount:
                self.note(where, "something is mounted there")
                return
            self.empty(child, where, depth + 1)
        finally:
            os.close(child)
        try:
            os.rmdir(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or not self.leftovers:
                self.note(where, _cause(error))

    def _lift(self, parent: int, name: str) -> bool:
        """Move a very deep directory up to the root, so that depth costs neither descriptors nor stack."""
        new = f".deep-{os.urandom(8).hex()}"
        try:
            try:
                os.rename(name, new, src_dir_fd=parent, dst_dir_fd=self.root)
            except PermissionError:  # it gets another parent, for which it must be writable itself
                _allow(parent, name)
                os.rename(name, new, src_dir_fd=parent, dst_dir_fd=self.root)
        except OSError:
            return False
        self.moved += 1
        return True


def remove_tree(
    path: str, budget: Budget, *, prefix: str, keep: Collection[str] = (), keep_root: bool = False
) -> list[dict[str, Any]]:
    """Remove the directory ``path``, except the names in ``keep`` directly in it; what could not be removed.

    Its last component must begin with ``prefix`` and it must be a real directory of this user: raises ``NotOurs``
    otherwise. One that is already gone is fine.
    """
    parent_path, name = os.path.split(os.path.normpath(os.path.abspath(path)))
    if not name.startswith(prefix):
        raise NotOurs(f"{path} is not named {prefix}*")
    try:
        parent = os.open(parent_path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    try:
        root = _open(parent, name)
    except FileNotFoundError:
        os.close(parent)
        return []
    except OSError as error:
        os.close(parent)
        raise NotOurs(f"{path} cannot be opened as a directory: {_cause(error)}") from error
    try:
        if os.fstat(root).st_uid != os.geteuid():
            raise NotOurs(f"{path} belongs to user {os.fstat(root).st_uid}, not to this one")
        removal = _Removal(path, root, budget)
        lifted = -1
        while lifted != removal.moved:  # what was lifted out of the depth lies in the root now
            lifted = removal.moved
            removal.leftovers.clear()
            removal.empty(root, path, 0, keep)
        if not keep and not keep_root:
            _remove_root(removal, parent, name)
        return _with_count(removal)
    finally:
        os.close(root)
        os.close(parent)


def _remove_root(removal: _Removal, parent: int, name: str) -> None:
    try:
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except OSError as error:
        if not removal.leftovers:
            removal.note(removal.path, _cause(error))


def _with_count(removal: _Removal) -> list[dict[str, Any]]:
    if removal.skipped:
        cause = f"{removal.skipped} more paths could not be removed"
        removal.leftovers.append({"kind": "path", "path": removal.path, "cause": cause})
    return removal.leftovers


def _open(parent: int, name: str) -> int:
    """Open a directory, giving ourselves the permission first where only that is missing."""
    try:
        return os.open(name, OPEN_DIRECTORY, dir_fd=parent)
    except PermissionError:
        _allow(parent, name)
        return os.open(name, OPEN_DIRECTORY, dir_fd=parent)


def _allow(parent: int, name: str) -> None:
    """Give ourselves all permissions for a directory."""
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{handle}", 0o700)
    finally:
        os.close(handle)


def _make_writable(directory: int) -> None:
    status = os.fstat(directory)
    if stat.S_IMODE(status.st_mode) & 0o700 != 0o700 and status.st_uid == os.geteuid():
        os.fchmod(directory, 0o700)


def _mount_of(descriptor: int) -> tuple[int, str]:
    """The mount a descriptor lies in: its device, and the kernel's number of the mount, which also tells a bind mount
    of the same file system (proc(5), fdinfo)."""
    number = ""
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", encoding="utf-8") as file:
            for line in file:
                if line.startswith("mnt_id:"):
                    number = line.split()[1]
    except OSError:  # no /proc: the device alone must do
        number = ""
    return os.fstat(descriptor).st_dev, number


def _cause(error: OSError) -> str:
    return (error.strerror or "unknown error").lower()
