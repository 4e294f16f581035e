"""Small servers on loopback that answer well, badly, slowly or not at all."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

TLS = Path(__file__).parent / "tls"
Handler = Callable[[socket.socket], None]


@contextlib.contextmanager
def serve(handler: Handler, host: str = "127.0.0.1") -> Iterator[int]:
    """A server whose every connection ``handler`` gets in a thread; yields its port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    attended: list[tuple[socket.socket, threading.Thread]] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                thread = threading.Thread(target=attend, args=(connection,))
                attended.append((connection, thread))
                thread.start()

    def attend(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(30)
            handler(connection)

    with socket.create_server((host, 0), family=family) as server:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield server.getsockname()[1]
        finally:
            # What a thread waits for is kept open by it: only a shutdown ends both.
            _shut(server)
            accepting.join()
            for connection, thread in attended:
                _shut(connection)
                thread.join()


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def read_request(connection: socket.socket) -> bytes:
    """The head of a request; what does not begin like one is not waited for."""
    content = b""
    while b"\r\n\r\n" not in content and (not content or content[:1].isalpha()):
        chunk = connection.recv(4096)
        if not chunk:
            break
        content += chunk
    return content


def web(status: int = 200, *, shift: float = 0.0, fields: str = "", seen: list[bytes] | None = None) -> Handler:
    """A server in HTTP whose clock is ``shift`` seconds ahead; requests are added to ``seen``."""

    def answer(connection: socket.socket) -> None:
        request = read_request(connection)
        if seen is not None:
            seen.append(request)
        date = formatdate(time.time() + shift, usegmt=True)
        connection.sendall(f"HTTP/1.1 {status} Said\r\nDate: {date}\r\n{fields}\r\n".encode())

    return answer


def says(content: bytes) -> Handler:
    """A server that answers every request with these bytes."""

    def answer(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(content)

    return answer


def silent(connection: socket.socket) -> None:
    """A server that never answers."""
    while connection.recv(4096):
        pass


def dripping(connection: socket.socket) -> None:
    """A server whose head never ends, a byte at a time."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def endless(connection: socket.socket) -> None:
    """A server whose head never ends, as fast as it can."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X: yyyyyyyyyyyyyyyy\r\n" * 100)


def resetting(connection: socket.socket) -> None:
    """A server that resets a connection instead of answering."""
    read_request(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def over_tls(handler: Handler, certificate: str = "good", *, version: ssl.TLSVersion | None = None) -> Handler:
    """The same server behind TLS, with one of the certificates of the tests."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / f"{certificate}.pem", TLS / "server_key.pem")
    if version is not None:
        context.maximum_version = version

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True) as secured:
            handler(secured)

    return answer


def proxy(names: dict[str, int], *, seen: list[bytes] | None = None, password: str = "") -> Handler:
    """A proxy for CONNECT and for whole addresses that reaches only the hosts in ``names``, at their local ports."""

    def answer(connection: socket.socket) -> None:
        request = read_request(connection)
        if seen is not None:
            seen.append(request)
        if not request:
            return
        method, wanted, _ = request.decode().split(" ", 2)
        if password and f"Proxy-Authorization: Basic {password}" not in request.decode():
            connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nVia: 1.1 test\r\n\r\n")
            return
        authority = wanted.removeprefix("http://").partition("/")[0]
        port = names.get(authority.rpartition(":")[0])
        if port is None:
            connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nX-Squid-Error: ERR_DNS_FAIL 0\r\n\r\n")
            return
        with socket.create_connection(("127.0.0.1", port)) as onward:
            if method == "CONNECT":
                connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                onward.sendall(request)
            _relay(connection, onward)

    return answer


def _relay(one: socket.socket, other: socket.socket) -> None:
    while True:
        for source in select.select([one, other], [], [], 30)[0]:
            content = source.recv(65536)
            if not content:
                return
            (other if source is one else one).sendall(content)
