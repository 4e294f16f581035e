"""One question to a TCP port of this machine, without waiting: whether it accepts, or what it answers to a GET."""

from __future__ import annotations

import _socket
import errno
import os
import select

from pilot_agent.services.plan import HOST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot_agent.lifecycle.loop import Loop

HEAD_BYTES = 1 << 14
CHUNK_BYTES = 1 << 16


class Exchange:
    """``done(problem, body)`` comes once: ``problem`` is empty when the port accepted and, with a ``path``, answered
    2xx; else it says what was found. ``body`` is read to its end only with ``body_bytes``, and no further."""

    __slots__ = ("_body_bytes", "_content", "_done", "_loop", "_over", "_path", "_port", "_socket")

    def __init__(
        self,
        loop: Loop,
        port: int,
        path: str | None,
        seconds: float,
        done: Callable[[str, bytes], None],
        *,
        body_bytes: int = 0,
    ) -> None:
        self._loop = loop
        self._port = port
        self._path = path
        self._done = done
        self._body_bytes = body_bytes
        self._content = bytearray()
        self._over = False
        kind = _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
        self._socket = _socket.socket(_socket.AF_INET, kind)
        code = self._socket.connect_ex((HOST, port))
        if code not in (0, errno.EINPROGRESS):
            loop.call_later(0, lambda: self._finish(os.strerror(code)))
            return
        loop.watch(self._socket.fileno(), self._connected, select.POLLOUT)
        loop.call_overdue(seconds, lambda: self._over, lambda: self._finish(f"no answer within {seconds:g} s"))

    def drop(self) -> None:
        """Ask no further; nobody is told."""
        if not self._over:
            self._over = True
            self._loop.forget(self._socket.fileno())
            self._socket.close()

    def _connected(self) -> None:
        code = self._socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        if code or self._path is None:
            self._finish(os.strerror(code) if code else "")
            return
        # HTTP/1.0: the answer then comes in one piece.
        request = f"GET /{self._path} HTTP/1.0\r\nHost: {HOST}:{self._port}\r\nConnection: close\r\n\r\n"
        try:
            self._socket.send(request.encode("ascii", "replace"))
        except OSError as error:
            self._finish(str(error.strerror))
            return
        self._loop.forget(self._socket.fileno())
        self._loop.watch(self._socket.fileno(), self._read)

    def _read(self) -> None:
        try:
            chunk = self._socket.recv(CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._finish(str(error.strerror))
            return
        self._content += chunk
        whole = len(self._content) >= HEAD_BYTES + self._body_bytes
        if not chunk or whole or (not self._body_bytes and b"\n" in self._content):
            self._answered()

    def _answered(self) -> None:
        line = bytes(self._content[:200]).partition(b"\n")[0].strip().decode("ascii", "replace")
        words = line.split(None, 2)
        good = len(words) > 1 and words[0].startswith("HTTP/") and len(words[1]) == 3 and words[1].startswith("2")
        self._finish("" if good else f"answered {line!r}" if line else "closed the connection without an answer")

    def _finish(self, problem: str) -> None:
        if self._over:
            return
        self.drop()
        content = bytes(self._content)
        _, _, body = content.partition(b"\r\n\r\n") if b"\r\n\r\n" in content else content.partition(b"\n\n")
        self._done(problem, body[: self._body_bytes])
