"""Benchmarks: the short measurement that every node gets, and those that are asked for by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from pilot_agent.config_check import Problem, invalid
from pilot_agent.hookspecs import Benchmark, Context, hookimpl
from pilot_agent.model import BenchmarkScore, Json
from pilot_agent.spelling import nearest


@hookimpl
def pilot_benchmarks(config: Mapping[str, Json]) -> Iterable[Benchmark]:
    """Those that ``benchmarks.run`` names, unless ``benchmarks.enabled`` is false.

    Raises ``PilotError`` (config.invalid) for a name that there is not.
    """
    settings = config["benchmarks"]
    if not settings["enabled"]:
        return
    names = settings["run"]
    if unknown := [name for name in names if name not in BUILT_IN]:
        near = nearest(unknown[0], BUILT_IN)
        raise invalid(
            [
                Problem(
                    "benchmarks.run",
                    "configuration",
                    f"there is no benchmark {unknown[0]!r}; known: {', '.join(BUILT_IN)}{near}",
                )
            ]
        )
    for name in dict.fromkeys(names):
        yield BUILT_IN[name](config)


def _hash(config: Mapping[str, Json]) -> Benchmark:
    """The bound is of address space, of which the C library reserves 64 MiB for each of many threads."""
    return Benchmark(
        name="hash",
        run=f"{__name__}:hash_rate",
        cores="all",
        memory_mib=2048,
        cache_days=0,
        timeout_seconds=10 + 2 * float(config["benchmarks"]["seconds"]),
    )


def hash_rate(context: Context) -> BenchmarkScore:
    """Hash on one core, then on all usable ones, for ``benchmarks.seconds`` in all."""
    from pilot_agent.benchmarks.hashing import measure

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


def _memory(config: Mapping[str, Json]) -> Benchmark:
    """Beside its arrays it needs what the C library and Python reserve for each thread."""
    return Benchmark(
        name="memory",
        run=f"{_MEASURING}:memory",
        cores="all",
        memory_mib=int(config["benchmarks"]["memory_mib"]) + 1024,
        timeout_seconds=15,
    )


def _disk(config: Mapping[str, Json]) -> Benchmark:
    return Benchmark(
        name="disk",
        run=f"{_MEASURING}:disk",
        memory_mib=1024,
        disk_mib=int(config["benchmarks"]["disk_mib"]) + 16,
        timeout_seconds=15,
    )


def _network(config: Mapping[str, Json]) -> Benchmark:
    """Raises ``PilotError`` (config.invalid) where there is no address for it."""
    addresses = config["benchmarks"]["network_urls"]
    if not addresses:
        message = "benchmarks.run names network, and there is no address to measure the way to: name one here"
        raise invalid([Problem("benchmarks.network_urls", "configuration", message)])
    seconds = NETWORK_SECONDS * len(addresses)
    return Benchmark(name="network", run=f"{_MEASURING}:network", timeout_seconds=2 + seconds)


_MEASURING = "pilot_agent.plugins.node_benchmarks"
NETWORK_SECONDS = 8.0
"""For each address."""

BUILT_IN: Mapping[str, Callable[[Mapping[str, Json]], Benchmark]] = {
    "hash": _hash,
    "memory": _memory,
    "disk": _disk,
    "network": _network,
}
"""Name -> what makes its declaration; nothing that measures is imported before it runs."""
