"""The hooks of the plugin ``db12``: its options, and the benchmarks that they name."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping

from pilot_agent.hookspecs import Benchmark, Context, Option, hookimpl
from pilot_agent.model import BenchmarkScore, Json

NAME = "db12"
SINGLE, MULTIPLE, DRAWS = "db12", "db12_multiple", "normal_draws"
WHENS = ("before", "beside", "periodic")
ITERATION_SECONDS = 60.0
"""What an iteration may take on the slowest core that is of any use."""
SHORT_DRAWS, SHORT_ROUNDS = 500_000, 3
COPY_MIB = 32
MOST_COPIES = 512


@hookimpl
def pilot_options() -> Iterator[Option]:
    """What a configuration may say of it, below ``plugins.options.db12``."""
    yield Option(name="run", type="list", default=[SINGLE], help=f"of {SINGLE}, {MULTIPLE} and {DRAWS} those that run")
    yield Option(name="iterations", type="integer", default=1, help="counted iterations, after one to warm up")
    yield Option(name="when", type="string", default="before", help=f"one of {', '.join(WHENS)}")
    yield Option(name="factor", type="number", default=1.0, help="correction by which every score is multiplied")


@hookimpl
def pilot_benchmarks(config: Mapping[str, Json]) -> Iterator[Benchmark]:
    """Those that the options name. Raises ``ValueError`` for an option's value that makes no sense."""
    options = config["plugins"]["options"][NAME]
    iterations = options["iterations"]
    if not 1 <= iterations <= 100:
        raise ValueError(f"plugins.options.{NAME}.iterations is {iterations}; 1 to 100 can be run")
    if not 0 < options["factor"] < 100:
        raise ValueError(f"plugins.options.{NAME}.factor is {options['factor']}; a number above 0 is needed")
    if options["when"] not in WHENS:
        raise ValueError(f"plugins.options.{NAME}.when is {options['when']!r}, and none of {', '.join(WHENS)}")
    seconds = ITERATION_SECONDS * (iterations + 1)
    # A score belongs to the version of Python that it was measured with, and to what the options make of it.
    version = f"1, Python {_python()}, {iterations} iterations, factor {options['factor']:g}"
    known = {
        SINGLE: Benchmark(
            name=SINGLE, run=f"{__name__}:single", when=options["when"], version=version, timeout_seconds=seconds
        ),
        MULTIPLE: Benchmark(
            name=MULTIPLE,
            run=f"{__name__}:multiple",
            cores="all",
            when=options["when"],
            version=version,
            memory_mib=COPY_MIB * MOST_COPIES,
            timeout_seconds=seconds,
        ),
        DRAWS: Benchmark(name=DRAWS, run=f"{__name__}:draws", when=options["when"], version=version),
    }
    for name in options["run"]:
        if name not in known:
            raise ValueError(f"plugins.options.{NAME}.run names {name!r}; known: {', '.join(known)}")
        yield known[name]


def single(context: Context) -> BenchmarkScore:
    """DB12 of one core."""
    from pilot_db12.measure import measure

    began, options = time.monotonic(), _options(context)
    found = measure(options["iterations"])
    return BenchmarkScore(
        SINGLE,
        score=_corrected(options, found.norm),
        unit="DB12",
        seconds=time.monotonic() - began,
        attributes={"DB12_PYTHON": _python()},
        repetitions=tuple(_corrected(options, norm) for norm in found.norms),
        conditions={
            **_conditions(options),
            "cpu_seconds": round(found.cpu_seconds, 2),
            "wall_seconds": round(found.wall_seconds, 2),
        },
    )


def multiple(context: Context) -> BenchmarkScore:
    """DB12 of all cores that the pilot may use, one copy on each at the same time: the sum."""
    from pilot_db12.measure import measure_copies

    began, options = time.monotonic(), _options(context)
    allowed = sorted(os.sched_getaffinity(0))[:MOST_COPIES]
    processors = allowed[: max(1, int(context.value("cpu.usable", len(allowed))))]
    found = measure_copies(processors, options["iterations"])
    return BenchmarkScore(
        MULTIPLE,
        score=_corrected(options, found.total),
        unit="DB12",
        seconds=time.monotonic() - began,
        attributes={
            "DB12_PYTHON": _python(),
            "BENCHMARK_DB12_MULTIPLE_COPIES": len(found.norms),
            "BENCHMARK_DB12_MULTIPLE_MEAN": _corrected(options, found.mean),
            "BENCHMARK_DB12_MULTIPLE_MEDIAN": _corrected(options, found.median),
        },
        conditions={**_conditions(options), "copies": [_corrected(options, norm) for norm in found.norms[:32]]},
    )


def draws(context: Context) -> BenchmarkScore:
    """The same work as DB12, 25 times less of it; it is no DB12, and has another unit."""
    from pilot_db12.measure import measure

    began, options = time.monotonic(), _options(context)
    rates = [
        SHORT_DRAWS / 1e6 / measure(1, SHORT_DRAWS, warm_up=number == 0).cpu_seconds for number in range(SHORT_ROUNDS)
    ]
    return BenchmarkScore(
        DRAWS,
        score=_corrected(options, statistics.median(rates)),
        unit="million draws/CPU s",
        seconds=time.monotonic() - began,
        attributes={"DB12_PYTHON": _python()},
        repetitions=tuple(_corrected(options, rate) for rate in rates),
        conditions=_conditions(options),
    )


def _options(context: Context) -> Mapping[str, Json]:
    options: Mapping[str, Json] = context.config["plugins"]["options"][NAME]
    return options


def _conditions(options: Mapping[str, Json]) -> dict[str, Json]:
    return {"python": sys.version.split()[0], "factor": options["factor"], "iterations": options["iterations"]}


def _corrected(options: Mapping[str, Json], norm: float) -> float:
    return round(norm * float(options["factor"]), 3)


def _python() -> str:
    return ".".join(str(number) for number in sys.version_info[:2])
