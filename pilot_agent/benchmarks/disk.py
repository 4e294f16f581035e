"""How fast the workspace's disk is: fio where the node has it, else the same by system calls as far as that is honest.

Honest is what reaches the disk: writing is timed until ``fdatasync`` returned, and without fio nothing is read where
the file system refuses O_DIRECT, because what was just written would come from memory.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass

from pilot_agent.benchmarks import fio
from pilot_agent.benchmarks.fio import Round
from pilot_agent.process import run

MEBIBYTE = 1 << 20
SMALL_BYTES = fio.SMALL_BLOCK_KIB << 10
FILE_NAME = "benchmark.data"
FIO_OUTPUT_BYTES = 4 << 20
START_SECONDS = 5.0
"""What fio may take beside its three parts."""


class DiskError(RuntimeError):
    """Nothing could be measured; the message says why."""


@dataclass(frozen=True, slots=True)
class Disk:
    """What the rounds found, by ``engine``, and whether they went past the page cache (``direct``)."""

    rounds: tuple[Round, ...]
    engine: str
    direct: bool


def measure(directory: str, environment: Mapping[str, str], *, size_mib: int, rounds: int, seconds: float) -> Disk:
    """Write, read and read at random a file of ``size_mib`` in ``directory``, and remove it; each part of a round takes
    ``seconds`` at most. Raises ``DiskError`` and ``OSError``."""
    path = os.path.join(directory, FILE_NAME)
    program = shutil.which("fio", path=environment.get("PATH"))
    try:
        if program is None:
            return _by_system_calls(path, size_mib, rounds, seconds)
        return _by_fio(program, path, environment, size_mib=size_mib, rounds=rounds, seconds=seconds)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _by_fio(
    program: str, path: str, environment: Mapping[str, str], *, size_mib: int, rounds: int, seconds: float
) -> Disk:
    direct = True
    found: list[Round] = []
    while len(found) < rounds:
        result = run(
            fio.command(program, path, size_mib=size_mib, direct=direct, seconds=seconds),
            deadline_seconds=len(fio.SECTIONS) * seconds + START_SECONDS,
            environment=environment,
            directory=os.path.dirname(path),
            output_limit_bytes=FIO_OUTPUT_BYTES,
        )
        said = (result.stdout + result.stderr).decode("utf-8", "replace")
        if result.code not in (0, None) and direct and any(word in said for word in fio.NO_DIRECT):
            direct = False
            continue
        if not result.ok:
            raise DiskError(result.explain())
        try:
            found.append(fio.read_round(result.stdout))
        except fio.FioError as error:
            raise DiskError(f"{program}: {error}") from error
    return Disk(tuple(found), "fio", direct)


def _by_system_calls(path: str, size_mib: int, rounds: int, seconds: float) -> Disk:
    descriptor, direct = _opened(path)
    try:
        with mmap.mmap(-1, MEBIBYTE) as block:  # O_DIRECT wants memory at the beginning of a page
            block.write(os.urandom(MEBIBYTE))
            found = []
            for _ in range(rounds):
                written, write = _write(descriptor, block, size_mib, seconds)
                read = _read(descriptor, block, written, seconds) if direct else None
                small = _read_small(descriptor, written, seconds) if direct else (None, None)
                found.append(Round(write, read, *small))
    finally:
        os.close(descriptor)
    return Disk(tuple(found), "system calls", direct)


def _opened(path: str) -> tuple[int, bool]:
    """A new file, past the page cache where the file system can."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_DIRECT, 0o600), True
    except OSError:
        # Some file systems make the file before they refuse.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return os.open(path, flags, 0o600), False


def _write(descriptor: int, block: mmap.mmap, size_mib: int, seconds: float) -> tuple[int, float]:
    """Bytes, and MB/s, until all of them are on the disk."""
    began, written = time.perf_counter(), 0
    while written < size_mib * MEBIBYTE and (not written or time.perf_counter() - began < seconds):
        written += _all_of_it(os.pwrite(descriptor, block, written))
    os.fdatasync(descriptor)
    return written, written / 1e6 / _since(began)


def _read(descriptor: int, block: mmap.mmap, size: int, seconds: float) -> float:
    began, came = time.perf_counter(), 0
    while came < size and (not came or time.perf_counter() - began < seconds):
        came += _all_of_it(os.preadv(descriptor, [block], came))
    return came / 1e6 / _since(began)


def _read_small(descriptor: int, size: int, seconds: float) -> tuple[float, float]:
    """Reads a second, and the microseconds that all but 1 % of them took; half of the file's blocks at most."""
    places = size // SMALL_BYTES
    took: list[float] = []
    with mmap.mmap(-1, SMALL_BYTES) as block:
        began = time.perf_counter()
        while len(took) < max(1, places // 2) and (not took or time.perf_counter() - began < seconds):
            before = time.perf_counter()
            at = random.randrange(places) * SMALL_BYTES  # noqa: S311 - a place in a file
            os.preadv(descriptor, [block], at)
            took.append(time.perf_counter() - before)
        rate = len(took) / _since(began)
    return rate, sorted(took)[min(len(took) - 1, len(took) * 99 // 100)] * 1e6


def _all_of_it(count: int) -> int:
    if count != MEBIBYTE:
        raise DiskError(f"the disk took or gave {count} of {MEBIBYTE} bytes: it is full, or over its quota")
    return count


def _since(began: float) -> float:
    return max(time.perf_counter() - began, 1e-9)
