"""A file system of one file, spoken to the kernel over /dev/fuse: mounted and read, so that FUSE is known to work.

The protocol is that of the kernel's ``include/uapi/linux/fuse.h``. Its version 7.22 is answered whatever the kernel
offers: Linux 3.10 (EL7) speaks it, and every later one still does.
"""

from __future__ import annotations

import _socket  # the module around it costs as much as a trial
import contextlib
import errno
import os
import select
import signal
import stat
import struct
import time
from collections.abc import Callable

from pilot_agent.probes.kernel.namespaces import end_with_parent

DEVICE = "/dev/fuse"
NAME = "pilot-agent"
CONTENT = b"read through FUSE\n"

_ROOT, _FILE = 1, 2
_VERSION = (7, 22)
# Longer than any request that this file system invites: the kernel wants room for a whole write.
_REQUEST_BYTES = 256 << 10
_OWNER_SECONDS = 1
_DIRECT_IO = 1

_IN = struct.Struct("=IIQQIIII")
_OUT = struct.Struct("=IiQ")
_READ_IN = struct.Struct("=QQI")

FORGET, BATCH_FORGET, INTERRUPT, DESTROY = 2, 42, 36, 38
LOOKUP, GETATTR, OPEN, READ, RELEASE, FLUSH, INIT = 1, 3, 14, 15, 18, 25, 26
_UNANSWERED = frozenset({FORGET, BATCH_FORGET, INTERRUPT, DESTROY})


def mount_data(device: int) -> str:
    """What mount(2) is told of a FUSE mount whose root is this account's directory."""
    return f"fd={device},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()}"


def answer(request: bytes) -> bytes | None:
    """The reply to one request of the kernel; None where it wants none. A damaged request gets none either."""
    if len(request) < _IN.size:
        return None
    _, opcode, unique, node, *_ = _IN.unpack_from(request)
    if opcode in _UNANSWERED:
        return None
    reply = _body(opcode, node, request[_IN.size :])
    if isinstance(reply, int):
        return _OUT.pack(_OUT.size, -reply, unique)
    return _OUT.pack(_OUT.size + len(reply), 0, unique) + reply


class Reader:
    """A child that reads the file through the mount, and never holds the device: the kernel would wait for ever for a
    process that waits for itself. Fork it before the device is opened.

    At the end of this process, however that comes, it calls ``at_end``, which may replace it by a program; without
    one it is killed.
    """

    def __init__(self, point: str, at_end: Callable[[], None] | None = None) -> None:
        self._socket, its_socket = _socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self._socket.close()
            _be_reader(f"{point}/{NAME}", its_socket, at_end)
        its_socket.close()

    def read(self, device: int, seconds: float) -> None:
        """Serve the file system of ``device`` until the child has read its file.

        Raises ``OSError``: what the child got, ETIMEDOUT when it got nothing in time, EBADMSG for another content. The
        device is closed at the end, which ends the file system for everybody who still waits for it.
        """
        self._socket.send(b"r")
        try:
            code = _serve(device, self._socket, time.monotonic() + seconds)
        finally:
            os.close(device)
        if code:
            raise OSError(code, os.strerror(code))

    def let_go(self) -> None:
        """Let the child call ``at_end``."""
        self._socket.close()

    def kill(self) -> None:
        """End the child; the device must be closed before."""
        self._socket.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _serve(device: int, reader: _socket.socket, end: float) -> int:
    """Answer requests until the reader tells its errno number (0: it read the file)."""
    poller = select.poll()
    poller.register(device, select.POLLIN)
    poller.register(reader.fileno(), select.POLLIN)
    while (left := end - time.monotonic()) > 0:
        ready = {descriptor for descriptor, _ in poller.poll(left * 1000)}
        if reader.fileno() in ready:
            told = reader.recv(1)
            return told[0] if told else errno.EPIPE
        if device in ready:
            try:
                _answer_one(device)
            except OSError as error:
                # ENOENT: the request was taken back; ENODEV: the file system is gone.
                if error.errno not in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                    return error.errno or errno.EIO
    return errno.ETIMEDOUT


def _answer_one(device: int) -> None:
    reply = answer(os.read(device, _REQUEST_BYTES))
    if reply is not None:
        os.write(device, reply)


def _be_reader(path: str, server: _socket.socket, at_end: Callable[[], None] | None) -> None:
    """The forked child's whole life; never returns."""
    try:
        if at_end is None:
            end_with_parent()
        else:
            os.setsid()  # out of the group that is killed with the server
        with contextlib.suppress(OSError):  # the server is gone
            while server.recv(1):
                server.send(bytes([_read_file(path)]))
        if at_end is not None:
            at_end()
    finally:
        os._exit(1)


def _read_file(path: str) -> int:
    """0 when the file has its content; else an errno number."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        content = os.read(descriptor, 4096)
        os.close(descriptor)
    except OSError as error:
        return (error.errno or errno.EIO) & 0xFF
    return 0 if content == CONTENT else errno.EBADMSG


def _body(opcode: int, node: int, rest: bytes) -> bytes | int:
    """What follows the header of a reply; an errno number for a refusal."""
    if opcode == INIT:
        return struct.pack("=IIIIHHI", *_VERSION, 0, 0, 0, 0, 4096)
    if opcode == LOOKUP:
        if node != _ROOT or rest.rstrip(b"\0") != NAME.encode():
            return errno.ENOENT
        return struct.pack("=QQQQII", _FILE, 0, _OWNER_SECONDS, _OWNER_SECONDS, 0, 0) + _attributes(_FILE)
    if opcode == GETATTR:
        return struct.pack("=QII", _OWNER_SECONDS, 0, 0) + _attributes(node)
    if opcode == OPEN and node == _FILE:
        return struct.pack("=QII", 0, _DIRECT_IO, 0)
    if opcode == READ and node == _FILE and len(rest) >= _READ_IN.size:
        _, offset, size = _READ_IN.unpack_from(rest)
        return CONTENT[offset : offset + size]
    return b"" if opcode in (RELEASE, FLUSH) else errno.ENOSYS


def _attributes(node: int) -> bytes:
    mode = stat.S_IFREG | 0o444 if node == _FILE else stat.S_IFDIR | 0o555
    size = len(CONTENT) if node == _FILE else 0
    owner = (os.geteuid(), os.getegid())
    return struct.pack("=QQQQQQIIIIIIIIII", node, size, 1, 0, 0, 0, 0, 0, 0, mode, 1, *owner, 0, 4096, 0)
