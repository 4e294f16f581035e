"""Benchmarks: the one short measurement that every node gets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pilot_agent.benchmarks.hashing import measure
from pilot_agent.hookspecs import Benchmark, Context, hookimpl
from pilot_agent.model import BenchmarkScore, Json


@hookimpl
def pilot_benchmarks(config: Mapping[str, Json]) -> Iterable[Benchmark]:
    """The hash rate, unless ``benchmarks.enabled`` is false.

    The bound is of address space, of which the C library reserves 64 MiB for each of many threads.
    """
    if config["benchmarks"]["enabled"]:
        seconds = float(config["benchmarks"]["seconds"])
        yield Benchmark(name="hash", run=f"{__name__}:hash_rate", memory_mib=2048, timeout_seconds=10 + 2 * seconds)


def hash_rate(context: Context) -> BenchmarkScore:
    """Hash on one core, then on all usable ones, for ``benchmarks.seconds`` in all."""
    cores = int(context.value("cpu.usable", 1))
    found = measure(cores, float(context.config["benchmarks"]["seconds"]))
    return BenchmarkScore(
        name="hash",
        score=round(found.all_cores, 1),
        unit="MB/s",
        seconds=round(found.seconds, 4),
        attributes={
            "PilotBenchmarkHash": round(found.all_cores, 1),
            "PilotBenchmarkHashPerCore": round(found.one_core, 1),
            "PilotBenchmarkHashScaling": round(found.scaling, 3),
            "PilotBenchmarkCores": found.threads,
        },
    )
