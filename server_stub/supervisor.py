"""What systemd is told of a server that it started with ``Type=notify``: ready, reloading, alive, stopping.

Its protocol is a datagram to the socket that ``NOTIFY_SOCKET`` names. Where nobody asks for it nothing is sent, and
what cannot be sent is no reason to stop.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

VARIABLE = "NOTIFY_SOCKET"
ABSTRACT = "@"


def tell_supervisor(*lines: str, environment: Mapping[str, str] | None = None) -> bool:
    """Send lines such as ``READY=1``; whether somebody took them."""
    address = (os.environ if environment is None else environment).get(VARIABLE, "")
    if not address.startswith(("/", ABSTRACT)):
        return False
    place = "\0" + address[1:] if address.startswith(ABSTRACT) else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
            connection.settimeout(1.0)
            connection.sendto("\n".join(lines).encode(), place)
    except OSError:
        return False
    return True


def ready(status: str) -> bool:
    """The server answers, at first or again after a reload."""
    return tell_supervisor("READY=1", f"STATUS={status}")


def reloading() -> bool:
    """The configuration is being read again; ``ready`` ends it."""
    return tell_supervisor("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def alive(status: str) -> bool:
    """One more round was done: without it for ``WatchdogSec`` the server is started again."""
    return tell_supervisor("WATCHDOG=1", f"STATUS={status}")


def stopping() -> bool:
    """The server ends what it began."""
    return tell_supervisor("STOPPING=1")
