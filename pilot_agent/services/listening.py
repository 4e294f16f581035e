"""The TCP sockets that listen on this machine, asked of the kernel directly (sock_diag(7)).

``/proc/net/tcp`` also walks through the table of all connections, which is made as large as the machine's memory lets
it: tens of milliseconds on a large node, even where there is none. The kernel has sockets that listen in another table.
"""

from __future__ import annotations

import _socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

SOCK_DIAG = 4
"""NETLINK_SOCK_DIAG (linux/netlink.h)."""
BY_FAMILY = 20
PROTOCOL = _socket.IPPROTO_TCP
REQUEST_DUMP = 0x301
ERROR, DONE = 2, 3
LISTEN = 1 << 10
"""The bit of TCP_LISTEN (include/net/tcp_states.h)."""
HEADER_BYTES = 16
MESSAGE_BYTES = 72
CHUNK_BYTES = 1 << 16
ADDRESS_BYTES = {_socket.AF_INET: 4, _socket.AF_INET6: 16}


def listening(port: int) -> list[tuple[bytes, int, int]] | None:
    """(address, inode of the socket, user) of all that listen on ``port``; None where the kernel cannot be asked so."""
    found: list[tuple[bytes, int, int]] = []
    try:
        asked = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, SOCK_DIAG)
    except OSError:
        return None
    try:
        for family, length in ADDRESS_BYTES.items():
            asked.send(_question(family))
            for message in _answers(asked):
                if int.from_bytes(message[4:6], "big") == port:
                    found.append((message[8 : 8 + length], _number(message[68:72]), _number(message[64:68])))
    except OSError:  # also for a kernel that lacks the part for IPv6, where the table in /proc tells what there is
        return None
    finally:
        asked.close()
    return found


def _question(family: int) -> bytes:
    """A header and ``struct inet_diag_req_v2`` (linux/inet_diag.h), with an empty socket."""
    length = (HEADER_BYTES + 56).to_bytes(4, sys.byteorder)
    header = length + BY_FAMILY.to_bytes(2, sys.byteorder) + REQUEST_DUMP.to_bytes(2, sys.byteorder) + bytes(8)
    return header + bytes((family, PROTOCOL, 0, 0)) + LISTEN.to_bytes(4, sys.byteorder) + bytes(48)


def _answers(asked: _socket.socket) -> Iterator[bytes]:
    """Each ``struct inet_diag_msg`` of a dump. Raises ``OSError`` for a refusal, and for what is no such answer."""
    while True:
        chunk = asked.recv(CHUNK_BYTES)
        place = 0
        while place + HEADER_BYTES <= len(chunk):
            length = _number(chunk[place : place + 4])
            kind = int.from_bytes(chunk[place + 4 : place + 6], sys.byteorder)
            if kind == DONE:
                _require_whole(chunk[place + HEADER_BYTES : place + length])
                return
            if kind == ERROR or length < HEADER_BYTES + MESSAGE_BYTES:
                raise OSError("the kernel does not tell")
            yield chunk[place + HEADER_BYTES : place + length]
            place += (length + 3) & ~3
        if not chunk:
            raise OSError("the kernel does not tell")


def _require_whole(end: bytes) -> None:
    """A kernel that cannot load the part for TCP ends its answer at once, with the error in its last message."""
    if int.from_bytes(end[:4], sys.byteorder, signed=True) < 0:
        raise OSError("the kernel does not tell")


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, sys.byteorder)
