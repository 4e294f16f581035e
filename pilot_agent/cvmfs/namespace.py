"""Namespaces in which ``/cvmfs`` is real (cvmfsexec's mode 3, design section 9): made by a child, joined by the pilot.

Three of them: a user namespace in which the child is root, as whom it may mount; its mount namespace; and a user
namespace below the first in which the account is itself again, so that HTCondor sees no root. A child makes them, as
little of it can be undone: the pilot joins once everything was proven, with calls that the kernel has had since 3.8.

Nothing stays mounted in the workspace: who is inside can unmount nothing, and a mount point cannot be removed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilot_agent import CVMFS
from pilot_agent.probes.kernel.namespaces import (
    CLONE_NEWNS,
    CLONE_NEWUSER,
    MS_BIND,
    MS_NODEV,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SLAVE,
    MS_UNBINDABLE,
    detach,
    enter_user_namespace,
    errno_name,
    map_account,
    mount,
    pivot_root,
    setns,
    unshare,
)

if TYPE_CHECKING:
    import socket

_EMPTY = "mode=755,size=1m"
_EVERYBODY_READS = 0o755
_SAFE = MS_NOSUID | MS_NODEV
_USER, _MOUNTS = "/proc/self/ns/user", "/proc/self/ns/mnt"


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Descriptors of the user namespace in which mounts were made, of the mounts, and of the user namespace in which
    the account is itself."""

    user: int
    mounts: int
    account: int

    def close(self) -> None:
        """Let them go; what nobody is in ends then."""
        for descriptor in (self.user, self.mounts, self.account):
            os.close(descriptor)


class StepError(Exception):
    """A step that the node refused; the text says which, and how."""

    def __init__(self, step: str, error: OSError) -> None:
        super().__init__(f"{step}: {errno_name(error.errno)}, {error.strerror}")


def obstacle() -> str:
    """Why this process cannot go into such namespaces, for the end of a message; empty when nothing is known to be in
    the way. Changes nothing."""
    if os.geteuid() == 0:
        return "the pilot runs as root, which HTCondor would not be inside; the site runs it as an ordinary account"
    if len(os.listdir("/proc/self/task")) != 1:
        return "a process with several threads cannot join a user namespace"
    return ""


def own_mounts() -> str:
    """The name of the mount namespace that this process is in, such as ``mnt:[4026531841]``."""
    return os.readlink(_MOUNTS)


def make_room(spare: str, mount_point: str = CVMFS) -> bool:
    """Move this process to a user namespace where it is root and to a mount namespace in which ``mount_point``, a
    directory of ``/``, is empty and its own to fill. Mounts of the node come and go here as outside.

    Where ``/`` has no such directory, and nobody but root may make one, this process gets another root with all that is
    in ``/``, put together in ``spare``, an empty directory: then true. Raises ``StepError``.
    """
    _step("a user and a mount namespace", lambda: enter_user_namespace(CLONE_NEWNS))
    # Not private: what autofs of the node mounts must come here too.
    _step("mounts of its own", lambda: mount("none", "/", "", MS_REC | MS_SLAVE))
    another_root = not os.path.isdir(mount_point)
    if another_root:
        _new_root(spare, os.path.basename(mount_point))
    _step(f"an empty {mount_point}", lambda: mount("tmpfs", mount_point, "tmpfs", _SAFE, _EMPTY))
    return another_root


def show(source: str, repository: str, mount_point: str = CVMFS) -> None:
    """Move the mount at ``source`` to its place below ``mount_point``. Raises ``StepError``."""
    target = os.path.join(mount_point, repository)

    def move() -> None:
        os.mkdir(target)
        os.chmod(target, _EVERYBODY_READS)
        mount(source, target, "", MS_BIND | MS_REC)
        detach(source)

    _step(f"{repository} at {target}", move)


def seal(mount_point: str = CVMFS, *, another_root: bool) -> None:
    """Let nobody add to ``mount_point``, nor to ``another_root`` that was made for it: jobs have the account that made
    them. Raises ``StepError``."""
    read_only = MS_REMOUNT | MS_BIND | MS_RDONLY | _SAFE
    for place in (mount_point, "/") if another_root else (mount_point,):
        _step(f"{place} read-only", lambda place=place: mount("none", place, "", read_only))  # type: ignore[misc]


def hand_over(channel: socket.socket, user: int, group: int) -> None:
    """Send the namespaces of this process through ``channel``, after it became the account ``user`` and ``group``
    again, as it was outside. Raises ``StepError``, and ``OSError`` when nobody receives."""
    descriptors = [os.open(_USER, os.O_RDONLY | os.O_CLOEXEC), os.open(_MOUNTS, os.O_RDONLY | os.O_CLOEXEC)]

    def become_the_account() -> None:
        unshare(CLONE_NEWUSER)
        map_account((user, group), (0, 0))

    _step("the account itself inside", become_the_account)
    descriptors.append(os.open(_USER, os.O_RDONLY | os.O_CLOEXEC))
    import socket as sockets  # costs milliseconds, and only pilots on this rung need it

    sockets.send_fds(channel, [b"."], descriptors)


def receive(channel: socket.socket) -> Namespaces | None:
    """What ``hand_over`` sent; None when nothing was."""
    import socket as sockets

    try:
        _, found, _, _ = sockets.recv_fds(channel, 1, 3)
    except OSError:
        return None
    if len(found) != 3:
        for descriptor in found:
            os.close(descriptor)
        return None
    for descriptor in found:
        os.set_inheritable(descriptor, False)
    return Namespaces(*found)


def join(namespaces: Namespaces) -> None:
    """Move this process, which has one thread, to these namespaces for good; account, working directory, signals and
    environment stay as they are. Raises ``StepError``, and then nobody should go on in this process."""
    user, group = os.getuid(), os.getgid()
    try:
        here = os.getcwd()
    except OSError:  # removed
        here = "/"
    _step("joining the user namespace", lambda: setns(namespaces.user, CLONE_NEWUSER))
    _step("joining the mount namespace", lambda: setns(namespaces.mounts, CLONE_NEWNS))
    _step("joining the account's user namespace", lambda: setns(namespaces.account, CLONE_NEWUSER))
    if (os.getuid(), os.getgid()) != (user, group):
        raise StepError("the same account inside", OSError(1, f"it is {os.getuid()}:{os.getgid()}"))
    try:
        os.chdir(here)
    except OSError:  # the account's home, on a file system that left meanwhile
        os.chdir("/")


def _step(name: str, action: Callable[[], object]) -> None:
    try:
        action()
    except OSError as error:
        raise StepError(name, error) from error


def _new_root(spare: str, added: str) -> None:
    """Another root that has all that is in ``/``, and an empty directory ``added``."""
    _step("a new root", lambda: mount("tmpfs", spare, "tmpfs", _SAFE, _EMPTY))
    # Otherwise the bind of the directory that the workspace is in would have the unfinished root in it.
    _step("a new root", lambda: mount("none", spare, "", MS_UNBINDABLE))
    with os.scandir("/") as entries:
        found = [entry for entry in entries if entry.name != added]
    for entry in found:
        _step(f"{entry.path} in the new root", lambda entry=entry: _have_too(entry, spare))  # type: ignore[misc]
    place = os.path.join(spare, added)

    def change() -> None:
        os.mkdir(place)
        os.chmod(place, _EVERYBODY_READS)
        pivot_root(spare)
        mount("none", "/", "", MS_PRIVATE)

    _step("changing to the new root", change)


def _have_too(entry: os.DirEntry[str], root: str) -> None:
    target = os.path.join(root, entry.name)
    if entry.is_symlink():
        os.symlink(os.readlink(entry.path), target)
        return
    if entry.is_dir(follow_symlinks=False):
        os.mkdir(target)
    else:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    mount(entry.path, target, "", MS_BIND | MS_REC)
