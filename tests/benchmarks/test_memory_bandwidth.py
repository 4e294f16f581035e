"""Memory bandwidth: the kernels that there is a library for, checked results, bounded rounds."""

from __future__ import annotations

import os
import threading

import pytest

from pilot_agent.benchmarks import memory_bandwidth
from pilot_agent.benchmarks.memory_bandwidth import Bandwidth, MemoryWrongError, arrays_of, measure, numpy_or_none
from tests.needs import need

MIB = 1 << 20
PROCESSORS = sorted(os.sched_getaffinity(0))


def test_without_numpy_the_c_library_copies() -> None:
    (copy,) = measure(None, PROCESSORS[:1], MIB, rounds=3, seconds=60)
    assert (copy.kernel, copy.threads, len(copy.rates)) == ("copy", 1, 3)
    assert all(rate > 0 for rate in copy.rates)
    assert copy.best == max(copy.rates)


def test_all_processors_copy_at_the_same_time() -> None:
    (copy,) = measure(None, PROCESSORS, 4 * MIB, rounds=2, seconds=60)
    assert copy.threads == len(PROCESSORS)


def test_more_threads_than_processors_end_as_well() -> None:
    before = threading.active_count()
    (copy,) = measure(None, PROCESSORS[:1] * 4, 4 * MIB, rounds=2, seconds=60)
    assert copy.threads == 4
    assert threading.active_count() == before


def test_with_numpy_all_four_kernels_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in memory_bandwidth.THREADS_OF_LIBRARIES:
        monkeypatch.setenv(name, "1")
    numpy = numpy_or_none()
    need("numpy", numpy is not None, "install the development packages (`make setup`)")
    found = measure(numpy, PROCESSORS, 4 * MIB, rounds=3, seconds=60)
    assert [one.kernel for one in found] == ["copy", "scale", "add", "triad"]
    assert all(len(one.rates) == 3 and one.best > 0 for one in found)
    assert (arrays_of(numpy), arrays_of(None)) == (3, 2)


def test_when_the_time_is_over_there_was_one_round() -> None:
    (copy,) = measure(None, PROCESSORS[:1], MIB, rounds=1000, seconds=0)
    assert len(copy.rates) == 1


def test_memory_that_forgets_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_bandwidth, "_copying", lambda arrays: {"copy": lambda: None})
    with pytest.raises(MemoryWrongError, match=r"holds 0\.0 where 90 was written"):
        measure(None, PROCESSORS[:1] * 2, MIB, rounds=1, seconds=60)


def test_where_no_thread_is_granted_nobody_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[threading.Thread] = []

    class Limited(threading.Thread):
        def start(self) -> None:
            if started:
                raise RuntimeError("can't start new thread")
            started.append(self)
            super().start()

    monkeypatch.setattr(threading, "Thread", Limited)
    with pytest.raises(RuntimeError, match="new thread"):
        measure(None, PROCESSORS[:1] * 3, MIB, rounds=1, seconds=60)
    started[0].join(60)
    assert not started[0].is_alive()


def test_the_best_round_is_the_rate_as_stream_has_it() -> None:
    assert Bandwidth("copy", 1, (3.0, 9.0, 5.0)).best == 9.0
