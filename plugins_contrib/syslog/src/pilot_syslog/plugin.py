"""Each event of a pilot as one line of the node's system log, so that a site finds it beside everything else.

It speaks to the local socket as syslog(3) does and never waits: a log that is full or away loses the line.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Sequence

from pilot_agent.hookspecs import Event, hookimpl

SOCKET = "/dev/log"
IDENTITY = "pilot-agent"
FACILITY_DAEMON, WARNING, INFO = 3, 4, 6
LONGEST_BYTES = 2000
FAILURES = ("failed", "refused", "lost", "killed")


@hookimpl
def pilot_event(events: Sequence[Event]) -> None:
    """Write what happened in the stage that ended. Without a log there is nothing to do."""
    send(SOCKET, (line_of(event, os.getppid()) for event in events))


def send(path: str, lines: Iterable[bytes]) -> int:
    """Send each line to the socket at ``path``; how many it took."""
    sent = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.setblocking(False)
        try:
            log.connect(path)
            for line in lines:
                log.send(line)
                sent += 1
        except OSError:
            return sent
    return sent


def line_of(event: Event, pid: int) -> bytes:
    """The line of one event, in the form of RFC 3164 without a time, which the log adds."""
    bad = any(word in f"{event.name} {event.data.get('status', '')}" for word in FAILURES)
    priority = FACILITY_DAEMON * 8 + (WARNING if bad else INFO)
    text = f"{event.name} {json.dumps(event.data, sort_keys=True, default=str)}".replace("\n", " ")
    return f"<{priority}>{IDENTITY}[{pid}]: {text}".encode()[:LONGEST_BYTES]
