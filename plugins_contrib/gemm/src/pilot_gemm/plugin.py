"""The hooks of the plugin ``gemm``: its options, and the program that runs where the GPU libraries are."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Mapping

from pilot_agent.hookspecs import Benchmark, Option, hookimpl
from pilot_agent.model import Json

NAME = "gemm"
SCRIPT = "product.py"
LIBRARIES = ("torch", "cupy", "cublas")
SMALLEST, LARGEST = 128, 32768


@hookimpl
def pilot_options() -> Iterator[Option]:
    """What a configuration may say of it, below ``plugins.options.gemm``."""
    yield Option(name="platform", type="string", default="", help="platform of the image; otherwise the default one")
    yield Option(name="where", type="string", default="image", help="image, or host: the node itself")
    yield Option(name="python", type="string", default="python3", help="the interpreter there")
    yield Option(name="library", type="string", default="", help=f"one of {', '.join(LIBRARIES)}; otherwise the first")
    yield Option(name="size", type="integer", default=4096, help="rows and columns of the matrices")
    yield Option(name="seconds", type="number", default=3.0, help="how long products are made")
    yield Option(
        name="timeout_seconds", type="number", default=60.0, help="for all of it, loading the library included"
    )
    yield Option(name="memory_mib", type="integer", default=4194304, help="of the program: CUDA reserves a lot")


@hookimpl
def pilot_benchmarks(config: Mapping[str, Json]) -> Iterator[Benchmark]:
    """The benchmark ``gemm``. Raises ``ValueError`` for an option's value that makes no sense."""
    options = config["plugins"]["options"][NAME]
    if options["where"] not in ("image", "host"):
        raise ValueError(f"plugins.options.{NAME}.where is {options['where']!r}, and neither image nor host")
    if options["library"] and options["library"] not in LIBRARIES:
        raise ValueError(f"plugins.options.{NAME}.library is {options['library']!r}; known: {', '.join(LIBRARIES)}")
    if not SMALLEST <= options["size"] <= LARGEST:
        raise ValueError(f"plugins.options.{NAME}.size is {options['size']}; {SMALLEST} to {LARGEST} can be run")
    yield Benchmark(
        name=NAME,
        where=options["where"],
        platform=options["platform"] or None if options["where"] == "image" else None,
        script=_program(),
        command=(
            options["python"],
            "{script}",
            str(options["size"]),
            str(options["seconds"]),
            *((options["library"],) if options["library"] else ()),
        ),
        version=f"1, {options['library'] or 'any library'}, {options['size']}",
        memory_mib=options["memory_mib"],
        timeout_seconds=options["timeout_seconds"],
    )


def _program() -> str:
    """Its text and not its path: in a payload it is no file."""
    return importlib.resources.files(__package__).joinpath(SCRIPT).read_text(encoding="utf-8")
