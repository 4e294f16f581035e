"""What a running benchmark may take, all its processes together: time, memory, disk; and how it comes to its limits."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

from pilot_agent.lifecycle.processes import descendants

LOOK_SECONDS, IDLE_LOOK_SECONDS = 0.2, 1.0
"""Between two looks, the second beside jobs; in between each process has limits of its own (setrlimit(2))."""
ROOM_MIB = 1
"""What everybody may write: the answer, and what an interpreter leaves."""
CONTAINER_MIB = 512
"""What the container runtime takes for itself before it becomes the program."""
MOST_ENTRIES = 100_000
BLOCK_BYTES = 512
PR_SET_PDEATHSIG = 1
IOPRIO_WHO_PROCESS, IOPRIO_IDLE = 1, 3 << 13
IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "ppc64le": 273, "s390x": 282}
"""ioprio_set(2) has no wrapper in the C library: its number by architecture."""


class Watch:
    """Ends a wait (``process.WakeUp``) once the processes below this one take more than they may, or this one is told
    to end; ``problem`` is the reason then."""

    def __init__(self, memory_mib: int, disk_mib: int, directory: str) -> None:
        self.problem = ""
        self._memory_mib = memory_mib
        self._disk_mib = disk_mib + ROOM_MIB
        self._directory = directory
        self._told = False
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def begin(self, every_seconds: float = LOOK_SECONDS) -> None:
        """Look from now on, by a timer of this process."""
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGALRM, _only_wake)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, self._tell)
        signal.setitimer(signal.ITIMER_REAL, every_seconds, every_seconds)

    def end(self) -> None:
        """Look no more."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _tell(self, number: int, frame: FrameType | None) -> None:
        self._told = True

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._reader

    def must_end(self) -> bool:
        """Whether it took too much, or this process was told to end."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 4096)
        if self._told:
            self.problem = "the pilot ends"
        self.problem = self.problem or self._memory() or self._disk()
        return bool(self.problem)

    def _memory(self) -> str:
        pids = descendants(os.getpid())
        if sum(map(_resident_mib, pids)) <= self._memory_mib:
            return ""
        # What they share counts once.
        taken = sum(map(_proportional_mib, pids))
        if taken <= self._memory_mib:
            return ""
        return f"its processes took {taken:.0f} MiB of memory, and memory_mib is {self._memory_mib}"

    def _disk(self) -> str:
        taken = used_mib(self._directory)
        if taken <= self._disk_mib:
            return ""
        return f"it wrote {taken:.0f} MiB into its directory, and disk_mib is {self._disk_mib - ROOM_MIB}"


def used_mib(directory: str) -> float:
    """What the files below a directory take on the disk; more than ``MOST_ENTRIES`` files count as endless."""
    blocks, entries, left = 0, 0, [directory]
    while left:
        try:
            with os.scandir(left.pop()) as found:
                for entry in found:
                    entries += 1
                    if entries > MOST_ENTRIES:
                        return float("inf")
                    blocks += entry.stat(follow_symlinks=False).st_blocks
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
        except OSError:  # it goes while it is looked at
            continue
    return blocks * BLOCK_BYTES / (1 << 20)


def confine(
    *, memory_mib: int, disk_mib: int | None, cpus: Sequence[int], address_space: bool, contained: bool, idle: bool
) -> None:
    """In the child, before it becomes the benchmark: its processors, limits and priority. ``address_space`` bounds also
    what is only reserved, ``disk_mib`` None bounds no file. What the node refuses is left as it is."""
    with contextlib.suppress(OSError):  # another set of processors since they were chosen
        os.sched_setaffinity(0, cpus)
    kind = resource.RLIMIT_AS if address_space else resource.RLIMIT_DATA
    _limit(kind, (memory_mib + (CONTAINER_MIB if contained else 0)) << 20)
    if disk_mib is not None:
        _limit(resource.RLIMIT_FSIZE, (disk_mib + ROOM_MIB) << 20)
    _limit(resource.RLIMIT_CORE, 0)
    _c_library(lambda library: library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if idle:
        os.nice(19)
        with contextlib.suppress(OSError):  # a filter of system calls: nice is what is left
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        number = IOPRIO_SET.get(os.uname().machine)
        if number is not None:
            _c_library(lambda library: library.syscall(number, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE))


def chosen(count: int) -> tuple[int, ...]:
    """So many of the processors on which this process may run, beginning at any: pilots that measure at the same time
    should not all take the first."""
    usable = sorted(os.sched_getaffinity(0))
    if count >= len(usable):
        return tuple(usable)
    first = int.from_bytes(os.urandom(2)) % len(usable)
    return tuple(sorted((usable + usable)[first : first + max(1, count)]))


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _c_library(call: Callable[[Any], object]) -> None:
    with contextlib.suppress(ImportError, OSError, AttributeError):  # a Python without libffi
        import ctypes  # late: only what measures needs it

        call(ctypes.CDLL(None))


def _resident_mib(pid: int) -> float:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / (1 << 20)
    except (OSError, IndexError, ValueError):
        return 0.0


def _proportional_mib(pid: int) -> float:
    """proc(5): Pss shares what several processes have mapped among them."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            fields: Mapping[bytes, bytes] = dict(line.split(b":", 1) for line in file if b":" in line)
        return int(fields[b"Pss"].split()[0]) / 1024
    except (OSError, KeyError, IndexError, ValueError):
        return _resident_mib(pid)


def _only_wake(number: int, frame: FrameType | None) -> None:
    return None
