"""How fast the node hashes: one core alone, then all of them at once.

SHA-256 by the interpreter's OpenSSL: a real instruction mix that needs no data, no memory and no network, the same on
every node, and that runs outside the interpreter's lock, so that threads use all cores. It tells a slow, throttled or
oversubscribed node from a good one; it is no measure of physics code.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

BLOCK_BYTES = 1 << 16
STACK_BYTES = 256 << 10
"""Enough for a hash; the default of 8 MiB for each thread would not fit a benchmark's memory on a large node."""

MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class HashRate:
    """Rates in MB/s; ``threads`` is how many really ran at once."""

    one_core: float
    all_cores: float
    threads: int
    seconds: float

    @property
    def scaling(self) -> float:
        """What a core is worth when all are busy: 1 on idle cores, less with hyper-threads or neighbours."""
        return self.all_cores / (self.threads * self.one_core) if self.one_core else 0.0


def measure(cores: int, seconds: float) -> HashRate:
    """Hash for ``seconds`` in all, half of it on one core and half on ``cores``."""
    began = time.monotonic()
    half = seconds / 2
    one = _hash_for(half)
    rates = _together(max(1, cores), half)
    return HashRate(one, sum(rates), len(rates), time.monotonic() - began)


def _hash_for(seconds: float) -> float:
    import hashlib  # late: OpenSSL is loaded by the benchmark's own process and not by the pilot's

    block = bytes(BLOCK_BYTES)
    digest = hashlib.sha256()
    blocks = 0
    began = now = time.perf_counter()
    while now - began < seconds or not blocks:
        digest.update(block)
        blocks += 1
        now = time.perf_counter()
    return blocks * BLOCK_BYTES / MEGABYTE / (now - began)


def _together(cores: int, seconds: float) -> list[float]:
    """The rate of each of ``cores`` threads; fewer where the node grants no more."""
    rates: list[float] = []
    threads: list[threading.Thread] = []
    before = threading.stack_size(STACK_BYTES)
    try:
        for _ in range(cores - 1):
            thread = threading.Thread(target=lambda: rates.append(_hash_for(seconds)))
            try:
                thread.start()
            except RuntimeError:
                break
            threads.append(thread)
    finally:
        threading.stack_size(before)
    rates.append(_hash_for(seconds))
    for thread in threads:
        thread.join()
    return rates
