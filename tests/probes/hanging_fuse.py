"""A FUSE file system of the tests' own that can stop answering, fail, or die, as the CVMFS client of a node does.

It speaks the kernel's protocol itself (``include/uapi/linux/fuse.h``, version 7.31), so nothing must be installed. A
request that was read and not answered holds its caller in uninterruptible sleep: not even SIGKILL ends it
(``request_wait_answer`` in the kernel's ``fs/fuse/dev.c``). With the last process that holds the device the kernel ends
the connection, and every caller with it; so nothing of a test stays.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pilot_agent.probes.kernel.namespaces import end_with_parent, mount

Mode = Literal["answer", "silent", "io_error"]

_MODES: dict[bytes, Mode] = {b"a": "answer", b"s": "silent", b"e": "io_error"}
_DIE = b"d"
_HEADER = struct.Struct("<IIQQIIII")
_REPLY = struct.Struct("<IiQ")
_ATTRIBUTES = struct.Struct("<6Q10I")
_ROOT, _FILE = 1, 2
_FILE_NAME = b"new_repository"
_CONTENT = b"a repository of the tests\n"

_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _STATFS, _RELEASE = 1, 2, 3, 14, 15, 17, 18
_GETXATTR, _LISTXATTR, _FLUSH, _INIT, _OPENDIR, _READDIR, _RELEASEDIR = 22, 23, 25, 26, 27, 28, 29
_ACCESS, _INTERRUPT, _DESTROY, _BATCH_FORGET = 34, 36, 38, 42
_UNANSWERED = (_FORGET, _BATCH_FORGET, _INTERRUPT)

GETATTR, OPENDIR, READDIR, GETXATTR, STATFS = _GETATTR, _OPENDIR, _READDIR, _GETXATTR, _STATFS
"""What a mount can be told to keep silent about."""


@dataclass(slots=True)
class HangingMount:
    """A mount that answers until it is told otherwise; ``connection`` is its number below
    ``/sys/fs/fuse/connections``."""

    path: str
    server: int
    command: int
    done: int

    @property
    def connection(self) -> int:
        """The minor number of the mount's device, by the kernel's list: to ask the mount itself may hang."""
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields = line.split()
            if fields[4] == self.path:
                return int(fields[2].partition(":")[2])
        raise LookupError(f"{self.path} is not mounted")

    def become(self, mode: Mode) -> None:
        """Answer from now on as ``mode`` says; returns when the server knows."""
        self._tell(next(word for word, known in _MODES.items() if known == mode))

    def die(self) -> None:
        """End the server: the mount stays, and whoever uses it is told that nobody is at its other end."""
        self._tell(_DIE)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.server, 0)

    def _tell(self, word: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self.command, word)
            os.read(self.done, 1)


@contextlib.contextmanager
def hanging_mount(
    path: str | Path,
    attributes: Mapping[str, str] | None = None,
    *,
    silent_about: tuple[int, ...] = (),
    directory_mode: int = 0o755,
) -> Iterator[HangingMount]:
    """Mount a directory with one file at ``path``, in the mount namespace of this process; the server is a child.

    ``attributes`` are the extended attributes of its root, ``silent_about`` the requests that it never answers.
    """
    os.makedirs(path, exist_ok=True)
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    orders, command = os.pipe()
    done, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            end_with_parent()
            os.close(command)
            os.close(done)
            _Server(device, orders, told, dict(attributes or {}), silent_about, directory_mode).serve()
        finally:
            os._exit(0)
    os.close(orders)
    os.close(told)
    served = HangingMount(str(path), pid, command, done)
    try:
        try:
            data = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
            mount("hanging", str(path), "fuse", 0, data)
        finally:
            os.close(device)
        served.become("answer")
        yield served
    finally:
        served.die()
        os.close(command)
        os.close(done)


@dataclass(slots=True)
class _Server:
    device: int
    orders: int
    told: int
    attributes: dict[str, str]
    silent_about: tuple[int, ...]
    directory_mode: int
    mode: Mode = "answer"
    held: list[int] = field(default_factory=list)

    def serve(self) -> None:
        """Answer until told to die, or until the mount is gone."""
        watched = [self.orders]  # the device can be read only when it is mounted, after the first order
        while True:
            readable, _, _ = select.select(watched, [], [])
            if self.orders in readable:
                word = os.read(self.orders, 1)
                if word not in _MODES:
                    return
                self.mode = _MODES[word]
                os.write(self.told, b".")
                watched = [self.orders, self.device]
            elif not self._serve_one():
                return

    def _serve_one(self) -> bool:
        try:
            request = os.read(self.device, 1 << 18)
        except OSError as error:
            return error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT)
        _, opcode, unique, node, *_ = _HEADER.unpack_from(request)
        if opcode in _UNANSWERED:
            return True
        if opcode != _INIT and (self.mode == "silent" or opcode in self.silent_about):
            self.held.append(unique)
            return True
        if opcode != _INIT and self.mode == "io_error":
            answer: bytes | int = errno.EIO
        else:
            answer = self._answer(opcode, node, request[_HEADER.size :])
        self._reply(unique, answer)
        return bool(opcode != _DESTROY)

    def _reply(self, unique: int, answer: bytes | int) -> None:
        body = answer if isinstance(answer, bytes) else b""
        code = -answer if isinstance(answer, int) else 0
        # The caller of an interrupted request may be gone.
        with contextlib.suppress(FileNotFoundError):
            os.write(self.device, _REPLY.pack(_REPLY.size + len(body), code, unique) + body)

    def _answer(self, opcode: int, node: int, body: bytes) -> bytes | int:
        match opcode:
            case 26:  # FUSE_INIT
                return struct.pack("<4I2H2I2H8I", 7, 31, 0, 0, 12, 9, 1 << 16, 1, 0, 0, *[0] * 8)
            case 1:  # FUSE_LOOKUP
                if node == _ROOT and body.rstrip(b"\0") == _FILE_NAME:
                    return struct.pack("<4Q2I", _FILE, 0, 0, 0, 0, 0) + self._status(_FILE)
                return errno.ENOENT
            case 3:  # FUSE_GETATTR; nothing is kept by the kernel, so every look comes here
                return struct.pack("<QII", 0, 0, 0) + self._status(node)
            case 14 | 27:  # FUSE_OPEN, FUSE_OPENDIR
                return struct.pack("<QII", 0, 0, 0)
            case 15:  # FUSE_READ
                _, offset, size = struct.unpack_from("<QQI", body)
                return _CONTENT[offset : offset + size]
            case 28:  # FUSE_READDIR
                _, offset, _ = struct.unpack_from("<QQI", body)
                return b"".join(_entries()[offset:])
            case 22:  # FUSE_GETXATTR
                size = struct.unpack_from("<I", body)[0]
                return self._attribute(node, body[8:].rstrip(b"\0").decode(), size)
            case 17:  # FUSE_STATFS
                return struct.pack("<5Q4I6I", 1 << 20, 1 << 19, 1 << 19, 0, 0, 4096, 255, 4096, 0, *[0] * 6)
            case 18 | 25 | 29 | 34 | 38:  # FUSE_RELEASE, _FLUSH, _RELEASEDIR, _ACCESS, _DESTROY
                return b""
            case _:
                return errno.ENOSYS

    def _status(self, node: int) -> bytes:
        mode = stat.S_IFDIR | self.directory_mode if node == _ROOT else stat.S_IFREG | 0o644
        size = 4096 if node == _ROOT else len(_CONTENT)
        return _ATTRIBUTES.pack(node, size, 1, 0, 0, 0, 0, 0, 0, mode, 2, 0, 0, 0, 4096, 0)

    def _attribute(self, node: int, name: str, size: int) -> bytes | int:
        if node != _ROOT or name not in self.attributes:
            return errno.ENODATA
        value = self.attributes[name].encode()
        if size == 0:
            return struct.pack("<II", len(value), 0)
        return value if len(value) <= size else errno.ERANGE


def _entries() -> list[bytes]:
    found = []
    for offset, (node, kind, name) in enumerate(
        ((_ROOT, stat.S_IFDIR, b"."), (_ROOT, stat.S_IFDIR, b".."), (_FILE, stat.S_IFREG, _FILE_NAME)), 1
    ):
        record = struct.pack("<QQII", node, offset, len(name), kind >> 12) + name
        found.append(record + b"\0" * (-len(record) % 8))
    return found
