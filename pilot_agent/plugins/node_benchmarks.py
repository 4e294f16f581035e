"""The built-in benchmarks that run where they are asked for: memory, disk, network. Loaded only by their own child."""

from __future__ import annotations

import functools
import os
import statistics
import time
from collections.abc import Iterable, Sequence

from pilot_agent.hookspecs import Context
from pilot_agent.model import BenchmarkScore, Json
from pilot_agent.plugins.benchmarks import NETWORK_SECONDS

MEBIBYTE = 1 << 20
CACHES = 4
"""STREAM's rule: each array is at least four times the last-level caches that are used."""
UNKNOWN_CACHE_BYTES = 64 * MEBIBYTE
SHARE_OF_MEMORY = 4
"""The arrays take one part of so many of what the pilot may use."""
MEMORY_ROUNDS, MEMORY_SECONDS = 5, 4.0
DISK_ROUNDS, DISK_SECONDS = 3, 0.5
DOWNLOADS = 3
FILE_SYSTEMS_IN_MEMORY = ("tmpfs", "ramfs")


def memory(context: Context) -> BenchmarkScore:
    """Copy memory on one core, then on all that the pilot may use; with NumPy the other kernels of STREAM as well."""
    from pilot_agent.benchmarks import memory_bandwidth
    from pilot_agent.benchmarks.caches import last_level_cache_bytes

    began = time.monotonic()
    processors = _processors(context)
    cache = last_level_cache_bytes(context.root, processors)
    numpy = memory_bandwidth.numpy_or_none()
    arrays = memory_bandwidth.arrays_of(numpy)
    wanted = CACHES * (cache or UNKNOWN_CACHE_BYTES)
    size = min(wanted, _arrays_mib(context) * MEBIBYTE // arrays)
    conditions: dict[str, Json] = {
        "library": f"NumPy {numpy.__version__} and the C library" if numpy is not None else "the C library",
        "array_mib": round(size / MEBIBYTE, 1),
        "cache_mib": round(cache / MEBIBYTE, 1) if cache is not None else None,
    }
    if cache is not None and size < cache:
        needed = arrays * cache // MEBIBYTE + 1
        message = f"arrays of {size // MEBIBYTE} MiB would stay in the cache; benchmarks.memory_mib and a quarter of "
        message += f"the memory must be {needed} MiB or more"
        return _none("memory", "MB/s", began, conditions, message)
    message = ""
    if size < wanted:
        message = (
            f"arrays are {size / (cache or UNKNOWN_CACHE_BYTES):.1f} times the last-level cache, and {CACHES} times "
        )
        message += "is the rule: a part of the rate may be the cache's"
    measured = functools.partial(memory_bandwidth.measure, rounds=MEMORY_ROUNDS, seconds=MEMORY_SECONDS)
    one, *_ = measured(None, processors[:1], size)
    copy, *others = measured(numpy, processors, size)
    attributes: dict[str, Json] = {"BENCHMARK_MEMORY_ONE_CORE": round(one.best, 1)}
    attributes |= {f"BENCHMARK_MEMORY_{other.kernel.upper()}": round(other.best, 1) for other in others}
    return BenchmarkScore(
        name="memory",
        score=round(copy.best, 1),
        unit="MB/s",
        seconds=round(time.monotonic() - began, 4),
        attributes=attributes,
        repetitions=_rounded(copy.rates),
        conditions={**conditions, "threads": copy.threads},
        message=message,
    )


def disk(context: Context) -> BenchmarkScore:
    """Write, read and read at random in the workspace, with fio or by system calls."""
    from pilot_agent.benchmarks.disk import measure

    began = time.monotonic()
    directory = os.path.realpath(context.workspace or os.curdir)
    size_mib = int(context.config["benchmarks"]["disk_mib"])
    found = measure(directory, context.environment, size_mib=size_mib, rounds=DISK_ROUNDS, seconds=DISK_SECONDS)
    kind = _file_system(directory)
    writes = [one.write for one in found.rounds]
    attributes = {
        "BENCHMARK_DISK_READ": _median(one.read for one in found.rounds),
        "BENCHMARK_DISK_RANDOM_READS": _median(one.random_reads for one in found.rounds),
    }
    latency = _median(one.percentile_99_us for one in found.rounds)
    notes = [] if found.direct else ["the file system has no direct I/O, so that a part may be the page cache's"]
    if kind in FILE_SYSTEMS_IN_MEMORY:
        notes.append(f"the workspace is on {kind}: this is memory and no disk")
    return BenchmarkScore(
        name="disk",
        score=round(statistics.median(writes), 1),
        unit="MB/s",
        seconds=round(time.monotonic() - began, 4),
        attributes={name: value for name, value in attributes.items() if value is not None},
        repetitions=_rounded(writes),
        conditions={
            "engine": found.engine,
            "direct": found.direct,
            "file_system": kind,
            "file_mib": size_mib,
            "random_read_99_percent_us": latency,
        },
        message="; ".join(notes),
    )


def network(context: Context) -> BenchmarkScore:
    """Connect to, and download from, each of ``benchmarks.network_urls``; the first that answers is the score."""
    from pilot_agent.benchmarks.network import NetworkError, Transfer, measure

    began = time.monotonic()
    settings = context.config["benchmarks"]
    limit_bytes = int(settings["network_mib"] * MEBIBYTE)
    measured = functools.partial(
        measure,
        environment=context.environment,
        limit_bytes=limit_bytes,
        rounds=DOWNLOADS,
        seconds=NETWORK_SECONDS,
    )
    found: list[Transfer] = []
    problems: list[str] = []
    for url in settings["network_urls"]:
        try:
            found.append(measured(url))
        except NetworkError as error:
            problems.append(str(error))
    if not found:
        return _none("network", "MB/s", began, {}, "; ".join(problems), failed=True)
    first = found[0]
    each: dict[str, Json] = {
        f"server_{number}": {
            "url": one.url,
            "rate": round(one.rate, 2),
            "connect_ms": round(one.connect_ms, 3),
            "received_mib": round(one.received_bytes / MEBIBYTE, 2),
            "proxy": one.proxy,
        }
        for number, one in enumerate(found, 1)
    }
    return BenchmarkScore(
        name="network",
        score=round(first.rate, 2),
        unit="MB/s",
        seconds=round(time.monotonic() - began, 4),
        attributes={"BENCHMARK_NETWORK_CONNECT_MS": round(first.connect_ms, 3)},
        repetitions=_rounded(first.rates),
        conditions=each,
        message="; ".join(problems),
    )


def _processors(context: Context) -> list[int]:
    """Those that this process may run on, as many as the pilot may use."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[: max(1, int(context.value("cpu.usable", len(allowed))))]


def _arrays_mib(context: Context) -> int:
    """What all arrays together may take."""
    configured = int(context.config["benchmarks"]["memory_mib"])
    usable = context.value("memory.usable_mib")
    return configured if usable is None else max(1, min(configured, int(usable) // SHARE_OF_MEMORY))


def _file_system(directory: str) -> str:
    from pilot_agent.files import read_bounded
    from pilot_agent.probes.mountinfo import mount_of, parse_mountinfo

    text = read_bounded("/proc/self/mountinfo", limit_bytes=4 * MEBIBYTE).decode("utf-8", "surrogateescape")
    mount = mount_of(parse_mountinfo(text), directory)
    return mount.kind if mount is not None else "unknown"


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 1) if known else None


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, 2) for value in values)


def _none(
    name: str, unit: str, began: float, conditions: dict[str, Json], message: str, *, failed: bool = False
) -> BenchmarkScore:
    return BenchmarkScore(
        name=name,
        score=None,
        unit=unit,
        seconds=round(time.monotonic() - began, 4),
        conditions=conditions,
        status="failed" if failed else "skipped",
        message=message,
    )
