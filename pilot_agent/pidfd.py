"""The end of a process, told by the kernel where it can (Linux 5.3 and newer) and looked for where it cannot.

Enterprise Linux 8 has a 4.18 kernel, a Python built there does not even know the calls, and the filter of an old
container runtime refuses them. All that the pilot uses of pidfd_open(2) and pidfd_send_signal(2) is here.
"""

from __future__ import annotations

import os
import select
import time

from pilot_agent.light import signal

LOOK_SECONDS = 0.02
"""Between two looks at a child of which the kernel does not tell."""


def open_pidfd(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends; None where the kernel, the Python or a filter knows no
    such thing. Raises ``ProcessLookupError`` when there is no such process."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except (OSError, AttributeError):
        return None


def send_signal(descriptor: int | None, pid: int, number: int) -> None:
    """A signal to the process of ``descriptor``, or by its number where there is none.

    Raises ``ProcessLookupError`` and ``PermissionError``.
    """
    if descriptor is not None:
        try:
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            raise
        except (OSError, AttributeError):  # PermissionError too: a filter answers so; the next call says whose it is
            pass
        else:
            return
    os.kill(pid, number)


class Ending:
    """The end of one child of this process, which stays to be waited for. ``close`` it."""

    __slots__ = ("descriptors", "pid")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        found = open_pidfd(pid)
        self.descriptors: tuple[int, ...] = () if found is None else (found,)
        """What becomes readable at the end; empty where only looking tells."""

    def came(self) -> bool:
        """Whether the child has ended."""
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:  # somebody else waited for it
            return True

    def limited(self, seconds: float) -> float:
        """How much of ``seconds`` its owner may wait for ``descriptors`` and other things before it looks again."""
        return seconds if self.descriptors else min(seconds, LOOK_SECONDS)

    def wait(self, seconds: float) -> bool:
        """Whether the child ends within so long; one look for none."""
        end = time.monotonic() + seconds
        poll = select.poll()
        for descriptor in self.descriptors:
            poll.register(descriptor, select.POLLIN)
        while not self.came():
            left = end - time.monotonic()
            if left <= 0:
                return False
            poll.poll(max(1.0, self.limited(left) * 1000))  # whole milliseconds: less than one would be spinning
        return True

    def signal(self, number: int) -> None:
        """A signal to exactly this child. Raises ``ProcessLookupError`` and ``PermissionError``."""
        send_signal(self.descriptors[0] if self.descriptors else None, self.pid, number)

    def close(self) -> None:
        """Watch it no longer."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors = ()
