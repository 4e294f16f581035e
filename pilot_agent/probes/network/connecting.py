"""Names looked up and connections made, each step with a deadline, and what went wrong under a short name."""

from __future__ import annotations

import errno
import select
import socket
import time

_MOST_ADDRESSES = 6
# RFC 8305, section 5: the next address is tried when the one before did not answer for so long.
_NEXT_ADDRESS_SECONDS = 0.25


class Failed(Exception):  # noqa: N818 - a failure is a finding
    """A step that did not succeed; the text is the attempt's ``problem``."""


def look_up(host: str, port: int) -> list[tuple[int, tuple[object, ...]]]:
    """The addresses of a host as (family, address), a few of each family in turn. Raises ``OSError``."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise Failed("EAI_NONAME") from error
    families = [socket.AF_INET6, socket.AF_INET]
    if found and found[0][0] == socket.AF_INET:
        families.reverse()
    sorted_by_family = [[(entry[0], entry[4]) for entry in found if entry[0] == family] for family in families]
    mixed = [entry for pair in zip(*sorted_by_family, strict=False) for entry in pair]
    shortest = min(map(len, sorted_by_family))
    return (mixed + [entry for group in sorted_by_family for entry in group[shortest:]])[:_MOST_ADDRESSES]


def connect(addresses: list[tuple[int, tuple[object, ...]]], deadline: float) -> tuple[socket.socket, dict[str, str]]:
    """The first connection that is made, and what became of the addresses that failed before.

    The next address is tried while those before it still may answer (RFC 8305). Raises ``Failed`` with the last
    problem when none answers.
    """
    waiting: dict[int, tuple[socket.socket, str]] = {}
    failed: dict[str, str] = {}
    queue = list(addresses)
    poller = select.poll()
    try:
        while queue or waiting:
            left = remaining(deadline)
            if queue:
                family, address = queue.pop(0)
                started = begin_connection(family, address)
                if isinstance(started, str):
                    failed[str(address[0])] = started
                    continue
                waiting[started.fileno()] = (started, str(address[0]))
                poller.register(started, select.POLLOUT)
                left = min(left, _NEXT_ADDRESS_SECONDS) if queue else left
            for descriptor, _ in poller.poll(max(1, left * 1000)):
                connection, shown = waiting.pop(descriptor)
                poller.unregister(descriptor)
                code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code == 0:
                    return connection, failed
                failed[shown] = errno.errorcode.get(code, str(code))
                connection.close()
    finally:
        for connection, _ in waiting.values():
            connection.close()
    raise Failed(next(reversed(failed.values()), "EAI_NODATA"))


def begin_connection(family: int, address: tuple[object, ...]) -> socket.socket | str:
    """A connection on its way, or the name of the errno that refused it at once."""
    connection = None
    try:
        connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        code = connection.connect_ex(address)
    except OSError as error:
        code = error.errno or errno.EIO
    if connection is not None and code in (0, errno.EINPROGRESS):
        return connection
    if connection is not None:
        connection.close()
    return errno.errorcode.get(code, str(code))


def remaining(deadline: float) -> float:
    """The seconds until a moment of the monotonic clock. Raises ``TimeoutError`` when there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def problem_of(error: Exception) -> str:
    """A short name for what the kernel, the resolver or OpenSSL said."""
    if isinstance(error, socket.gaierror):
        names = {value: name for name, value in vars(socket).items() if name.startswith("EAI_")}
        return names.get(error.errno or 0, "EAI_FAIL")
    # SSLEOFError, whatever its reason is called in this version of OpenSSL.
    if "EOF" in type(error).__name__:
        return "closed"
    reason = getattr(error, "reason", None)
    if isinstance(reason, str):
        return reason
    named = errno.errorcode.get(error.errno or 0) if isinstance(error, OSError) else None
    return named or type(error).__name__


def look_up_own_name() -> str:
    """What the resolver calls this node, with a dot in it; empty when it knows no such name."""
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM, flags=socket.AI_CANONNAME)
    except (OSError, UnicodeError):
        return ""
    name = found[0][3] if found else ""
    return name if "." in name and not name.startswith("localhost") else ""
