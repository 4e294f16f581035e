"""Signals that only wake the main loop, and the one thing to watch while waiting: ``Alarm``."""

from __future__ import annotations

import os
import select

from pilot_agent.light import dumps, signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType
    from typing import Any, Literal

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGXCPU, signal.SIGHUP)
"""SIGXCPU is how some batch systems tell that the job's processor time is nearly used up."""
REQUEST_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)
PILOT_REQUESTS = (signal.SIGHUP, *REQUEST_SIGNALS)
"""A pilot that jobs run in goes on after a hang-up, which asks it to look at its token."""
GUARDIAN_GONE: Literal["guardian gone"] = "guardian gone"


def reset_inherited() -> None:
    """Undo what the caller left: ignored signals (nohup, a shell's background job), blocked ones, descriptors that
    children would inherit, and a umask that takes rights from the pilot itself or leaves writing to everybody."""
    os.umask(os.umask(0o077) & 0o077 | 0o022)
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ):
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):  # kept by the C library for itself
                continue
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.set_inheritable(int(name), False)
            except OSError:  # the descriptor of the listing itself
                continue


class Alarm:
    """Why waiting must end: a stop signal, or the guardian's death.

    ``fileno()`` is readable when something is new. With ``sticky`` it stays so once there is a reason to stop, so that
    every later wait of a program that runs many children ends at once; a main loop that goes on needs the other. A
    handler records nothing itself: Python's wake-up descriptor gets the number of each signal, in order.
    """

    __slots__ = (
        "_epoll",
        "_guardian_fd",
        "_latch",
        "_latched",
        "_reader",
        "_requests",
        "_stops",
        "_writer",
        "fast",
        "guardian_gone",
        "signal",
    )  # fmt: skip

    def __init__(self, guardian_fd: int | None, *, sticky: bool) -> None:
        self.signal: int | None = None
        """The first stop signal."""
        self.fast = False
        """True once SIGQUIT came."""
        self.guardian_gone = False
        self._guardian_fd = guardian_fd
        self._requests: set[int] = set()
        self._stops: frozenset[int] = frozenset(STOP_SIGNALS)
        self._latched = not sticky
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._latch = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
        self._epoll.register(self._reader, select.EPOLLIN)
        self._epoll.register(self._latch, select.EPOLLIN)
        if guardian_fd is not None:
            os.set_inheritable(guardian_fd, False)
            os.set_blocking(guardian_fd, False)
            self._epoll.register(guardian_fd, select.EPOLLIN | select.EPOLLRDHUP)

    @classmethod
    def install(
        cls,
        guardian_fd: int | None = None,
        *,
        also: Iterable[int] = (),
        requests: Iterable[int] = REQUEST_SIGNALS,
        sticky: bool = True,
    ) -> Alarm:
        """Watch the stop signals, those in ``also``, and the socket to the guardian.

        ``requests`` are no stop signals; those that are not in ``also`` are ignored from here on, instead of killing.
        """
        alarm = cls(guardian_fd, sticky=sticky)
        signal.set_wakeup_fd(alarm._writer, warn_on_full_buffer=False)
        alarm._stops = frozenset(STOP_SIGNALS) - set(requests)
        watched = {*alarm._stops, *also}
        for number in watched:
            signal.signal(number, _only_wake)
        for request in set(requests) - watched:
            signal.signal(request, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, watched | set(requests))
        return alarm

    def hear(self, request: int) -> None:
        """Watch a request that was ignored so far, and tell the guardian that it can be passed on."""
        signal.signal(request, _only_wake)
        self.tell({"hears": [request]})

    def ignore(self, request: int) -> None:
        """Before the process ends: an interpreter that ends puts its handlers back, and the signal would kill it."""
        signal.signal(request, signal.SIG_IGN)

    @property
    def alone(self) -> bool:
        """True when no guardian is left (or there never was one) to remove what this process leaves."""
        self._read()
        return self._guardian_fd is None or self.guardian_gone

    def tell(self, message: dict[str, Any]) -> None:
        """Send one message to the guardian; without one, or when it cannot take more, nothing happens."""
        if self._guardian_fd is not None and not self.guardian_gone:
            try:
                os.write(self._guardian_fd, dumps(message).encode() + b"\n")
            except OSError:  # gone: the next reading says so
                return

    def keep_across_exec(self) -> None:
        """Before this process becomes another program of the pilot: hold signals back, so that none is lost or kills,
        and hand the guardian's socket on. The other side's ``install`` takes both."""
        signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP_SIGNALS, *REQUEST_SIGNALS))
        self._read()
        if self.signal is not None:
            os.kill(os.getpid(), self.signal)  # blocked: it waits for the next program
        if self._guardian_fd is not None:
            os.set_inheritable(self._guardian_fd, True)

    def close(self) -> None:
        """Give the descriptors back; the alarm is of no use after it, and no signal is written to it any more."""
        other = signal.set_wakeup_fd(-1)
        if other not in (-1, self._writer):
            signal.set_wakeup_fd(other, warn_on_full_buffer=False)
        self._epoll.close()
        for descriptor in (self._reader, self._writer, self._latch):
            os.close(descriptor)

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._epoll.fileno()

    def must_end(self) -> bool:
        """Whether there is a reason to stop; other signals that woke a wait are taken out of the way."""
        return self.reason() is not None

    def reason(self) -> int | Literal["guardian gone"] | None:
        """Why to stop: a signal's number, ``GUARDIAN_GONE``, or None. Once there is a reason it stays."""
        self._read()
        if self.signal is not None:
            return self.signal
        return GUARDIAN_GONE if self.guardian_gone else None

    def requests(self) -> set[int]:
        """The other signals that came since the last call."""
        self._read()
        taken, self._requests = self._requests, set()
        return taken

    def _read(self) -> None:
        for number in _read_all(self._reader) or b"":
            if number not in self._stops:
                self._requests.add(number)
                continue
            self.signal = self.signal or number
            self.fast = self.fast or number == signal.SIGQUIT
        if self._guardian_fd is not None and not self.guardian_gone and _read_all(self._guardian_fd) is None:
            # It stays open: a program that follows by exec must find the end of the stream there, not another file.
            self.guardian_gone = True
            self._epoll.unregister(self._guardian_fd)
        if not self._latched and (self.signal is not None or self.guardian_gone):
            self._latched = True
            os.eventfd_write(self._latch, 1)


def _only_wake(number: int, frame: FrameType | None) -> None:
    return None


def _read_all(descriptor: int) -> bytes | None:
    """What a non-blocking descriptor holds; None when the other side is gone."""
    content = b""
    while True:
        try:
            chunk = os.read(descriptor, 4096)
        except BlockingIOError:
            return content
        except OSError:
            return None
        if not chunk:
            return content or None
        content += chunk
