"""TCP ports of this machine: free ones, and whose a listening one is."""

from __future__ import annotations

import _socket
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

LISTENING = "0A"
"""The state in /proc/net/tcp (include/net/tcp_states.h)."""
TRIES = 32


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


def listeners(port: int, root: str = "/") -> list[tuple[str, int]]:
    """(inode of the socket, user) of all that listen on ``port``, on whatever address; empty where that is not told."""
    found = []
    for name in ("tcp", "tcp6"):
        try:
            with open(os.path.join(root, f"proc/net/{name}"), encoding="ascii", errors="replace") as table:
                for line in table:
                    fields = line.split()
                    if len(fields) > 9 and fields[3] == LISTENING and fields[1].endswith(f":{port:04X}"):
                        found.append((fields[9], int(fields[7])))
        except (OSError, ValueError):
            continue
    return found


def holder(port: int, pids: Iterable[int], root: str = "/") -> str | None:
    """Who listens on ``port``: an empty text when it is one of ``pids``, words for a foreign program, None for nobody.

    Where the descriptors of one of ``pids`` cannot be read, as of a program of another domain, the user decides.
    """
    found = listeners(port, root)
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
