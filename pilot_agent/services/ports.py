"""TCP ports of this machine: free ones, and whose a listening one is."""

from __future__ import annotations

import _socket
import os
import sys

from pilot_agent.services.listening import listening

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LISTENING = "0A"
"""The state in /proc/net/tcp (include/net/tcp_states.h)."""
TRIES = 32
LOOPBACK = bytes((127, 0, 0, 1))
IPV4_IN_IPV6 = b"\0" * 10 + b"\xff" * 2
REACHED_ON_LOOPBACK = (bytes(4), LOOPBACK, bytes(16), IPV4_IN_IPV6 + bytes(4), IPV4_IN_IPV6 + LOOPBACK)
"""Where one must listen to be reached at 127.0.0.1."""


def free_port(taken: Iterable[int] = ()) -> int:
    """A port that nobody uses now, and none of ``taken``. Whoever binds it next has it. Raises ``OSError``."""
    avoided = set(taken)
    for _ in range(TRIES):
        with_address = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        try:
            with_address.bind(("0.0.0.0", 0))  # noqa: S104 - never listened on: free on every address is what counts
            number: int = with_address.getsockname()[1]
        finally:
            with_address.close()
        if number not in avoided:
            return number
    raise OSError("the system gives no free port")


def listeners(port: int, root: str = "/", *, on_loopback: bool = False) -> list[tuple[str, int]]:
    """(inode of the socket, user) of all that listen on ``port``, on whatever address; empty where that is not told.

    ``on_loopback`` leaves only those that a connection to 127.0.0.1 can reach.
    """
    found = listening(port) if root == "/" else None
    if found is None:
        found = list(_in_table(port, root))
    return [(str(inode), user) for address, inode, user in found if not on_loopback or address in REACHED_ON_LOOPBACK]


def _in_table(port: int, root: str) -> Iterator[tuple[bytes, int, int]]:
    """(address, inode, user) as /proc/net/tcp and tcp6 have them: addresses in words of 32 bits in this machine's
    order."""
    for name in ("tcp", "tcp6"):
        try:
            with open(os.path.join(root, f"proc/net/{name}"), encoding="ascii", errors="replace") as table:
                for line in table:
                    fields = line.split()
                    if len(fields) <= 9 or fields[3] != LISTENING or not fields[1].endswith(f":{port:04X}"):
                        continue
                    raw = bytes.fromhex(fields[1].partition(":")[0])
                    words = (raw[at : at + 4] for at in range(0, len(raw), 4))
                    address = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
                    yield address, int(fields[9]), int(fields[7])
        except (OSError, ValueError):
            continue


def holder(port: int, pids: Iterable[int], root: str = "/") -> str | None:
    """Who listens on ``port``: an empty text when it is one of ``pids``, words for a foreign program, None for nobody.

    Where ``pids`` are given those count alone that answer at 127.0.0.1: another account may have the same number there
    while they have it on another address. Where the descriptors of one of ``pids`` cannot be read, as of a program of
    another domain, the user decides.
    """
    pids = tuple(pids)
    found = listeners(port, root, on_loopback=bool(pids))
    if not found:
        return None
    wanted = {f"socket:[{inode}]" for inode, _ in found}
    unseen = False
    for pid in pids:
        directory = os.path.join(root, f"proc/{pid}/fd")
        try:
            for name in os.listdir(directory):
                if _link(f"{directory}/{name}") in wanted:
                    return ""
        except FileNotFoundError:
            continue
        except OSError:
            unseen = True
    users = sorted({user for _, user in found})
    if unseen and users == [os.geteuid()]:
        return ""
    return f"another program of user {', '.join(map(str, users))}"


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
