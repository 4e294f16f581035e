"""FUSE really mounted and read by an ordinary account: inside a user namespace, and outside through the helper.

Each trial runs in a child of its own and answers with plain data; what it means is judged elsewhere. Nothing of a trial
stays, not even when it is killed: a namespace goes with its process, and outside the process that reads also waits for
the end of the trial, to unmount. (The helper's own ``auto_unmount`` leaves mounts that root may not look into.)
"""

from __future__ import annotations

import _socket  # the module around it costs as much as a trial, and is read before the right to read it is lost
import contextlib
import errno
import os
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from pilot_agent.codec import to_json
from pilot_agent.model import Json
from pilot_agent.probes.kernel.fuse_mount import DEVICE, Reader, mount_data
from pilot_agent.probes.kernel.namespace_trial import MAPS, MOUNT, PRIVATE, TMPFS, USER, own_profile
from pilot_agent.probes.kernel.namespaces import (
    CLONE_NEWNS,
    CLONE_NEWUSER,
    MS_NODEV,
    MS_NOSUID,
    Steps,
    covered_directory,
    give_up_root,
    load,
    map_to_root,
    mount,
    mount_is_filtered,
    private_mounts,
    unshare,
    unshare_is_filtered,
)
from pilot_agent.probes.mountinfo import Mount, parse_mountinfo
from pilot_agent.process import run, start_resident

INSIDE = "FUSE in a user namespace"
OUTSIDE = "FUSE through the helper"
REMOVAL = "what FUSE through the helper left"

OPEN, FUSE_MOUNT, POINT, HELPER, READ = "open /dev/fuse", "FUSE mount", "mount point", "helper", "read"
READ_SECONDS = 2.0
_ENDED_SECONDS = 1.0
_POINT = "fuse-trial"
_OPTIONS = "rw,nosuid,nodev,fsname=pilot-agent,subtype=probe"
_ENVIRONMENT = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C"}
_SAID_BYTES = 2000


@dataclass(frozen=True, slots=True)
class FuseTrial:
    """How far a trial came; fields as in ``NamespaceTrial``. ``said`` is what the helper printed, and ``left`` a mount
    point that is still mounted."""

    steps: Mapping[str, str] = field(default_factory=dict)
    gave_up_root: bool = False
    as_root: bool = False
    filtered: tuple[str, ...] = ()
    profile: str = ""
    said: str = ""
    left: str = ""

    @property
    def refused(self) -> str:
        """The first step that was refused; empty when none was."""
        return next((name for name, error in self.steps.items() if error), "")

    @property
    def worked(self) -> bool:
        """True when the file was read."""
        return self.steps.get(READ) == ""


def try_inside() -> Json:
    """Mount and read in a user namespace; a ``FuseTrial`` as JSON."""
    gave_up = give_up_root()
    as_root = os.geteuid() == 0
    user, group = os.geteuid(), os.getegid()
    steps = Steps()
    profile, filtered = "", []
    if steps.take(OPEN, lambda: os.close(_open_device())):
        if not steps.take(USER, lambda: unshare(CLONE_NEWUSER)):
            filtered += ["unshare"] if unshare_is_filtered() else []
        elif steps.take(MAPS, lambda: map_to_root(user, group)):
            profile = own_profile()
            _mount_and_read(steps)
            if steps.taken.get(FUSE_MOUNT) or steps.taken.get(PRIVATE):
                filtered += ["mount"] if mount_is_filtered() else []
    return to_json(FuseTrial(steps.taken, gave_up, as_root, tuple(filtered), profile))


def try_helper(helper: str, workspace: str) -> Json:
    """Mount through the helper in the workspace, read and unmount; a ``FuseTrial`` as JSON.

    Root of the machine does it as an ordinary account, in a mount namespace of its own where that account may write.
    """
    steps = Steps()
    directory, gave_up = workspace, False
    if os.geteuid() == 0:
        load()
        with contextlib.suppress(OSError):
            directory = _directory_of_all()
            gave_up = give_up_root()
    point = f"{directory}/{_POINT}"
    said, left = "", ""
    if steps.take(POINT, lambda: os.makedirs(point, mode=0o700, exist_ok=True)):
        reader = Reader(point, lambda: _unmount_by(helper, point))
        with _Helper(helper, point) as mounted:
            if steps.take(HELPER, mounted.start):
                steps.take(READ, lambda: reader.read(mounted.take_device(), READ_SECONDS))
        reader.let_go()
        unmounted = _wait_for_end(reader.pid) == 0
        said, left = mounted.said, "" if unmounted else remove_mount(helper, point)
        if unmounted:
            os.rmdir(point)
    return to_json(FuseTrial(steps.taken, gave_up, os.geteuid() == 0, said=said, left=left))


def remove_left(helper: str, workspace: str) -> Json:
    """Unmount what a killed trial left in the workspace; the mount point that stays all the same, or empty."""
    return remove_mount(helper, f"{workspace}/{_POINT}")


def remove_mount(helper: str, point: str) -> str:
    """Unmount and remove a mount point of the trial; ``point`` when something stays mounted there, else empty.

    A file system that does not answer is aborted first, so that nobody waits for it.
    """
    found = _mounted_at(point)
    if found is not None:
        _abort(found)
        run([helper, "-u", "-z", point], deadline_seconds=_ENDED_SECONDS, environment=_ENVIRONMENT)
    if found is not None and _mounted_at(point) is not None:
        return point
    with contextlib.suppress(OSError):
        os.rmdir(point)
    return ""


class _Helper:
    """The helper at work: it mounts and hands over the device that it opened."""

    def __init__(self, path: str, point: str) -> None:
        self.said = ""
        self._argv: Sequence[str] = (path, "-o", _OPTIONS, "--", point)
        self._socket, self._its_socket = _socket.socketpair()
        self._output = os.memfd_create("output")
        self._pid: int | None = None
        self._device: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._device is not None:
            os.close(self._device)
        self._socket.close()
        self._its_socket.close()
        if self._pid is not None:
            _wait_for_end(self._pid)
        self.said = os.pread(self._output, _SAID_BYTES, 0).decode("utf-8", "replace").strip()
        os.close(self._output)

    def start(self) -> None:
        """Start the helper and take the device that it opened. Raises ``OSError``: it could not be started (ENOENT,
        EACCES), it refused (EPERM; ``said`` tells why), or it did not answer (ETIMEDOUT)."""
        number = self._its_socket.fileno()
        environment = _ENVIRONMENT | {"_FUSE_COMMFD": str(number)}
        self._pid = start_resident(
            self._argv, environment=environment, output=self._output, directory="/", pass_descriptors=[number]
        )
        self._its_socket.close()
        self._socket.settimeout(READ_SECONDS)
        try:
            _, ancillary, _, _ = self._socket.recvmsg(1, _socket.CMSG_LEN(4), _socket.MSG_CMSG_CLOEXEC)
        except TimeoutError as error:
            raise OSError(errno.ETIMEDOUT, "the helper did not answer") from error
        for level, kind, content in ancillary:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS) and len(content) >= 4:
                self._device = struct.unpack("=i", content[:4])[0]
                return
        raise OSError(errno.EPERM, "the helper refused")

    def take_device(self) -> int:
        """The device; the caller closes it."""
        device, self._device = self._device, None
        if device is None:
            raise OSError(errno.EBADF, "there is no device")
        return device


def _mount_and_read(steps: Steps) -> None:
    point = covered_directory()
    if not (steps.take(MOUNT, lambda: unshare(CLONE_NEWNS)) and steps.take(PRIVATE, private_mounts)):
        return
    reader = Reader(point)
    # The kernel takes only a descriptor that was opened in the user namespace of the mount.
    device = _open_device()
    if not steps.take(
        FUSE_MOUNT, lambda: mount("pilot-agent", point, "fuse", MS_NOSUID | MS_NODEV, mount_data(device))
    ):
        os.close(device)
    else:
        steps.take(READ, lambda: reader.read(device, READ_SECONDS))
    reader.kill()


def _unmount_by(helper: str, point: str) -> None:
    """Become the helper that unmounts. Raises ``OSError`` when there is no such program."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.execve(helper, [helper, "-u", "-z", point], _ENVIRONMENT)


def _directory_of_all() -> str:
    """A directory that every account may write in and only this process and its children see. Raises ``OSError``."""
    unshare(CLONE_NEWNS)
    private_mounts()
    directory = covered_directory()
    mount(TMPFS, directory, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=1777")
    return directory


def _open_device() -> int:
    return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)


def _mounted_at(point: str) -> Mount | None:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as stream:
        mounts = parse_mountinfo(stream.read(4 << 20))
    return next((mount for mount in mounts if mount.point == point and mount.kind.startswith("fuse")), None)


def _abort(found: Mount) -> None:
    number = found.device.partition(":")[2]
    with contextlib.suppress(OSError):
        descriptor = os.open(f"/sys/fs/fuse/connections/{number}/abort", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"1")
        finally:
            os.close(descriptor)


def _wait_for_end(pid: int) -> int | None:
    """The exit code of a child; None for one that does not end in time, or by a signal."""
    end = time.monotonic() + _ENDED_SECONDS
    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > end:
            return None
        time.sleep(0.001)
    return os.waitstatus_to_exitcode(ended[1])
