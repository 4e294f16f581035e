"""The control socket: people of the pilot's own account ask how it stands, or tell it to drain or to stop.

It lies in the private directory, which no job sees, with mode 0600. A job that runs without a container could reach it
all the same, with the same account: so whoever descends from the pilot itself is refused too.

One request and one answer for each connection, each a single packet (unix(7), SOCK_SEQPACKET), so nobody can hold the
pilot up with half a line.
"""

from __future__ import annotations

import _socket
import errno
import os
import select
import sys
import time

from pilot_agent.lifecycle.identity import read_stat
from pilot_agent.light import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

REQUEST_LIMIT_BYTES = 4096
ANSWER_LIMIT_BYTES = 1 << 16
CONNECTIONS = 8
PATIENCE_SECONDS = 2.0
"""How long a connection may stay without a request."""
CREDENTIALS_BYTES = 12  # struct ucred of unix(7): pid, uid, gid, four bytes each
PARENTS = 4096


class ControlSocket:
    """Listens in ``directory``. ``answer(request)`` gives the answer to a request that is a mapping; ``fileno()`` is
    readable when ``serve`` has something to do."""

    __slots__ = ("_answer", "_connections", "_directory", "_epoll", "_listener", "_name")

    def __init__(self, directory: str, name: str, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Raises ``OSError`` when the directory is not there, or no socket can be made in it. The caller holds the
        workspace: a socket of that name is that of a guardian that was killed."""
        # Kept open: through it the socket is bound, since a path may be longer than the 107 bytes of unix(7), and by it
        # `pilot-agent status` finds the pilots of an account.
        self._directory = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._name = name
        self._answer = answer
        self._connections: dict[int, tuple[_socket.socket, float]] = {}
        self._listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_NONBLOCK)
        before = os.umask(0o177)
        try:
            self._bind()
            self._listener.listen(CONNECTIONS)
        except OSError:
            self._listener.close()
            os.close(self._directory)
            raise
        finally:
            os.umask(before)
        self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
        self._epoll.register(self._listener.fileno(), select.EPOLLIN)

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._epoll.fileno()

    def next_seconds(self) -> float | None:
        """Seconds until ``serve`` must be called even if nothing comes; None when nobody is connected."""
        ends = [end for _, end in self._connections.values()]
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def serve(self) -> None:
        """Take what came, answer it, and drop who took too long. Never blocks."""
        for descriptor, _ in self._epoll.poll(0):
            if descriptor == self._listener.fileno():
                self._accept()
            elif descriptor in self._connections:
                self._talk(self._connections[descriptor][0])
                self._drop(descriptor)
        now = time.monotonic()
        for descriptor in [fd for fd, (_, end) in self._connections.items() if end <= now]:
            self._drop(descriptor)

    def close(self) -> None:
        """Answer no more, and take the socket away."""
        for descriptor in list(self._connections):
            self._drop(descriptor)
        self._epoll.close()
        self._listener.close()
        try:
            os.unlink(self._name, dir_fd=self._directory)
        except OSError:  # the workspace is gone, and with it the socket
            self._name = ""
        os.close(self._directory)

    def _bind(self) -> None:
        path = f"/proc/self/fd/{self._directory}/{self._name}"
        try:
            self._listener.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            os.unlink(self._name, dir_fd=self._directory)
            self._listener.bind(path)

    def _accept(self) -> None:
        try:
            descriptor, _ = self._listener._accept()  # type: ignore[attr-defined]  # what the public module calls
        except OSError:  # it went away, or there are too many open files
            return
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, descriptor)
        os.set_inheritable(descriptor, False)
        connection.setblocking(False)
        if len(self._connections) >= CONNECTIONS or not _may_ask(connection):
            connection.close()
            return
        self._connections[descriptor] = (connection, time.monotonic() + PATIENCE_SECONDS)
        self._epoll.register(descriptor, select.EPOLLIN)

    def _drop(self, descriptor: int) -> None:
        connection, _ = self._connections.pop(descriptor)
        self._epoll.unregister(descriptor)
        connection.close()

    def _talk(self, connection: _socket.socket) -> None:
        try:
            content = connection.recv(REQUEST_LIMIT_BYTES)
        except OSError:
            return
        try:
            request = loads(content)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            reply: dict[str, Any] = {"error": "a JSON mapping is needed"}
        else:
            reply = self._answer(request)
        try:
            connection.send(dumps(reply).encode()[:ANSWER_LIMIT_BYTES])
        except OSError:  # nobody waits for it any more
            return


def _may_ask(connection: _socket.socket) -> bool:
    """Whether the other side is this account or root, and no descendant of this process, as every job is one."""
    credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, CREDENTIALS_BYTES)
    pid, uid = (int.from_bytes(credentials[start : start + 4], sys.byteorder) for start in (0, 4))
    # A pid of 0 belongs to a process outside this PID namespace; jobs are always in it or in one below.
    return uid in (os.geteuid(), 0) and (pid == 0 or not descends(pid, os.getpid()))


def descends(pid: int, ancestor: int) -> bool:
    """Whether ``pid`` is ``ancestor`` or below it; also when nobody can tell, because it has ended."""
    for _ in range(PARENTS):
        if pid == ancestor:
            return True
        if pid <= 1:
            return False
        stat = read_stat(pid)
        if stat is None:
            return True
        pid = stat.parent
    return True


def ask(directory: str, name: str, request: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The answer of the pilot whose private directory this is.

    Raises ``OSError`` when there is no socket, nobody listens, or the answer does not come in time, ``PermissionError``
    when the pilot hangs up on this process; ``ValueError`` when the answer is no mapping.
    """
    opened = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    try:
        connection.settimeout(seconds)
        connection.connect(f"/proc/self/fd/{opened}/{name}")
        try:
            connection.send(dumps(request).encode())
            content = connection.recv(ANSWER_LIMIT_BYTES)
        except ConnectionError:
            content = b""
    finally:
        connection.close()
        os.close(opened)
    if not content:
        raise PermissionError(1, "the pilot does not answer this process")
    answer = loads(content)
    if not isinstance(answer, dict):
        raise ValueError("the pilot's answer is no mapping")
    return answer
