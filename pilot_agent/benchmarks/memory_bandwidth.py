"""How fast the node moves memory: the four kernels of STREAM (McCalpin), as far as a library for them is there.

``copy`` is always the C library's ``memmove``, so that its rate is the same thing on every node. With NumPy there are
``scale``, ``add`` and ``triad`` too, on doubles; NumPy has no fused triad, which here passes over the memory twice and
is counted so. Bytes are counted as STREAM does: those that a kernel reads and those that it writes, and not what a
cache fetches before a line is overwritten (``memmove`` avoids that fetch on large blocks, NumPy does not).
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import mmap
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

MEGABYTE = 1e6
SCALAR = 3.0
STACK_BYTES = 256 << 10
COUNTED: dict[str, int] = {"copy": 2, "scale": 2, "add": 3, "triad": 5}
"""How often a kernel passes over the length of an array, reading or writing."""


class MemoryWrongError(RuntimeError):
    """The memory did not hold what was written."""


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """MB/s of one kernel in each of its rounds, all threads together."""

    kernel: str
    threads: int
    rates: tuple[float, ...]

    @property
    def best(self) -> float:
        """As STREAM reports it: what disturbs a round makes it slower and never faster."""
        return max(self.rates)


def numpy_or_none() -> Any:
    """NumPy where this interpreter has it. In a process of the benchmark's own: it is told to start no threads."""
    for name in THREADS_OF_LIBRARIES:
        os.environ[name] = "1"
    try:
        return importlib.import_module("numpy")
    except Exception:  # noqa: BLE001 - one that was built for another processor raises what it likes
        return None


def measure(numpy: Any, processors: Sequence[int], array_bytes: int, *, rounds: int, seconds: float) -> list[Bandwidth]:
    """Run the kernels at the same time on each of ``processors``, which share arrays of ``array_bytes``: two of them,
    or three with NumPy. After ``seconds`` no round begins, but for the first.

    Raises ``MemoryError`` and ``OSError`` where so much is not granted, ``RuntimeError`` where no thread is, and
    ``MemoryWrongError``.
    """
    kernels = ("copy", "scale", "add", "triad") if numpy is not None else ("copy",)
    arrays = arrays_of(numpy)
    length = max(mmap.PAGESIZE, array_bytes // len(processors) // mmap.PAGESIZE * mmap.PAGESIZE)
    together = _Together(len(processors), rounds, seconds)
    works = [_Work(numpy, kernels, processor, [_array(length) for _ in range(arrays)]) for processor in processors]
    before = threading.stack_size(STACK_BYTES)
    try:
        threads = [threading.Thread(target=work.run, args=(together,), daemon=True) for work in works]
        for thread in threads:
            thread.start()
    except RuntimeError:
        together.give_up()
        raise
    finally:
        threading.stack_size(before)
    for thread in threads:
        thread.join()
    for work in works:
        if work.error is not None:
            raise work.error
    moved = length * len(works) / MEGABYTE
    return [
        Bandwidth(
            name,
            len(works),
            tuple(moved * COUNTED[name] / _seconds(works, name, one) for one in range(together.rounds)),
        )
        for name in kernels
    ]


def arrays_of(numpy: Any) -> int:
    """How many arrays the kernels need that can be run."""
    return 3 if numpy is not None else 2


class _Together:
    """Lets all threads begin each kernel at the same time, and agree on whether there is another round."""

    def __init__(self, threads: int, most: int, seconds: float) -> None:
        self.rounds = 0
        self._most, self._end = most, time.monotonic() + seconds
        self._go_on = False
        self._rounds = threading.Barrier(threads, action=self._decide)
        self._kernels = threading.Barrier(threads)

    def another(self) -> bool:
        """Whether all begin one more round."""
        self._rounds.wait()
        return self._go_on

    def begin(self) -> None:
        """Wait for the others before a kernel."""
        self._kernels.wait()

    def give_up(self) -> None:
        """Let nobody wait any more: one of the threads has failed."""
        self._rounds.abort()
        self._kernels.abort()

    def _decide(self) -> None:
        self._go_on = self.rounds == 0 or (self.rounds < self._most and time.monotonic() < self._end)
        self.rounds += self._go_on


def _array(length: int) -> mmap.mmap:
    """Fresh memory, which the thread that works on it is the first to touch, so that it is near its processor."""
    array = mmap.mmap(-1, length)
    with contextlib.suppress(OSError):
        array.madvise(mmap.MADV_HUGEPAGE)
    return array


def _seconds(works: Sequence[_Work], kernel: str, one: int) -> float:
    """From when the first thread began this kernel in this round until the last had ended it."""
    spans = [work.spans[kernel][one] for work in works]
    return max(max(end for _, end in spans) - min(begin for begin, _ in spans), 1e-9)


class _Work:
    """What one thread does, on arrays of its own."""

    def __init__(self, numpy: Any, kernels: Sequence[str], processor: int, arrays: list[mmap.mmap]) -> None:
        self.spans: dict[str, list[tuple[float, float]]] = {name: [] for name in kernels}
        self.error: BaseException | None = None
        self._processor = processor
        self._arrays = arrays
        self._numpy = numpy

    def run(self, together: _Together) -> None:
        try:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, {self._processor})
            kernels = _copying(self._arrays) if self._numpy is None else _numerical(self._numpy, self._arrays)
            while together.another():
                for name, kernel in kernels.items():
                    together.begin()
                    begin = time.perf_counter()
                    kernel()
                    self.spans[name].append((begin, time.perf_counter()))
                _require_held(self._numpy, self._arrays, together.rounds)
        except threading.BrokenBarrierError:
            return  # another thread says why
        except Exception as error:  # noqa: BLE001 - raised again where the threads are waited for
            self.error = error
            together.give_up()


def _address(array: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(array))


def _copying(arrays: list[mmap.mmap]) -> dict[str, Callable[[], object]]:
    first, second = (_address(array) for array in arrays)
    length = len(arrays[0])
    ctypes.memset(first, _PATTERN, length)
    ctypes.memset(second, 0, length)
    return {"copy": lambda: ctypes.memmove(second, first, length)}


def _numerical(numpy: Any, arrays: list[mmap.mmap]) -> dict[str, Callable[[], object]]:
    one, two, three = (numpy.frombuffer(array, dtype=numpy.float64) for array in arrays)
    one[:], two[:], three[:] = 1.0, 2.0, 0.0
    source, target, length = _address(arrays[0]), _address(arrays[2]), len(arrays[0])

    def triad() -> None:
        numpy.multiply(three, SCALAR, out=one)
        numpy.add(one, two, out=one)

    return {
        "copy": lambda: ctypes.memmove(target, source, length),
        "scale": lambda: numpy.multiply(three, SCALAR, out=two),
        "add": lambda: numpy.add(one, two, out=three),
        "triad": triad,
    }


_PATTERN = 0x5A
THREADS_OF_LIBRARIES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""What NumPy is built on starts a thread for each processor as it is loaded, with memory that is not there for it."""


def _require_held(numpy: Any, arrays: list[mmap.mmap], rounds: int) -> None:
    """Look at the first, the middle and the last element of what the kernels wrote."""
    if numpy is None:
        found = [float(arrays[1][at]) for at in (0, len(arrays[1]) // 2, -1)]
        expected: float = _PATTERN
    else:
        values = numpy.frombuffer(arrays[0], dtype=numpy.float64)
        found = [float(values[at]) for at in (0, len(values) // 2, -1)]
        expected = _after(rounds)
    wrong = [value for value in found if abs(value - expected) > 1e-9 * expected]
    if wrong:
        raise MemoryWrongError(f"the memory holds {wrong[0]!r} where {expected!r} was written; the site replaces it")


def _after(rounds: int) -> float:
    """What the first array holds after so many rounds of the four kernels."""
    one = 1.0
    for _ in range(rounds):
        three = one
        two = SCALAR * three
        three = one + two
        one = SCALAR * three + two
    return one
