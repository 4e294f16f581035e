"""Learn of the moment when a program is started, from the kernel and without looking again and again (inotify(7))."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

IN_OPEN = 0x20
IN_ONESHOT = 0x80000000
EVENT = struct.Struct("iIII")
STAT = Path("/proc/stat")


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment by both clocks, with the number of processes and threads that the machine had made until then."""

    monotonic: float
    wall: float
    processes: int


def now() -> Moment:
    """This moment."""
    monotonic, wall = time.monotonic(), time.time()
    return Moment(monotonic, wall, machine_processes())


def machine_processes() -> int:
    """How many processes and threads the machine has made since its start (`processes`, proc_stat(5))."""
    line = next(line for line in STAT.read_text(encoding="ascii").splitlines() if line.startswith("processes "))
    return int(line.split()[1])


class Openings:
    """Tells when a file is opened; the kernel opens a program, or a script, to start it."""

    def __init__(self, path: Path, *, once: bool) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor: int = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        mask = ctypes.c_uint32(IN_OPEN | (IN_ONESHOT if once else 0))
        if self._descriptor < 0 or libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))

    def wait(self, until: float) -> Moment | None:
        """The moment of the next opening; None when there was none before `until` (monotonic)."""
        left = max(0.0, until - time.monotonic())
        if not select.select([self._descriptor], [], [], left)[0]:
            return None
        moment = now()
        os.read(self._descriptor, 64 * EVENT.size)
        return moment

    def close(self) -> None:
        """Stop watching."""
        os.close(self._descriptor)


@contextmanager
def openings(path: Path, *, once: bool = False) -> Iterator[Openings]:
    """Watch a file for the length of a block; with `once` only for its first opening."""
    watched = Openings(path, once=once)
    try:
        yield watched
    finally:
        watched.close()
