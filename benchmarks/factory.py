"""What a factory bears: reports, downloads and pages. Neither payload nor testbed is needed for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks import factory_downloads, factory_opening, factory_reports
from benchmarks.figures import Figure

NAME = "factory"
"""All of them."""
PARTS: dict[str, Callable[[int, Callable[[str], None]], list[Figure]]] = {
    factory_reports.NAME: factory_reports.measure,
    factory_downloads.NAME: factory_downloads.measure,
    factory_opening.NAME: factory_opening.measure,
}
NAMES = (NAME, *PARTS)


def wanted(names: Sequence[str]) -> list[str]:
    """The parts that are named, or all."""
    return [name for name in PARTS if name in names or NAME in names]
