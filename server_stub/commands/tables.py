"""Answers for people and for programs: a table that fits the terminal, or JSON."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence

from pilot_agent.model import Json

GAP = "  "
LEAST_CELL = 8


def print_json(document: Json) -> None:
    """The document on standard output."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output; where that is a terminal, none of its lines is wider."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    sys.stdout.write("".join(f"{line}\n" for line in table_lines(columns, rows, width)))


def table_lines(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """The lines of a table: the columns' names, and a line for each row. With a ``width`` the widest columns are cut,
    which is marked by ``…``, until every line fits, or no cell is longer than ``LEAST_CELL`` and the line is cut."""
    lines = [tuple(columns), *(tuple(row) for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    if width is not None:
        widths = _narrowed(widths, width)
    return [
        _cut(GAP.join(_padded(cell, size) for cell, size in zip(line, widths, strict=True)), width) for line in lines
    ]


def _narrowed(widths: Sequence[int], width: int) -> list[int]:
    found, room = list(widths), width - len(GAP) * (len(widths) - 1)
    while sum(found) > room and max(found) > LEAST_CELL:
        widest = found.index(max(found))
        following = max((size for size in found if size < found[widest]), default=0)
        least = max(following, LEAST_CELL, found[widest] - (sum(found) - room))
        found[widest] = least if least < found[widest] else found[widest] - 1
    return found


def _padded(cell: str, size: int) -> str:
    return f"{cell if len(cell) <= size else cell[: size - 1].rstrip() + '…':<{size}}"


def _cut(line: str, width: int | None) -> str:
    told = line.rstrip()
    return told if width is None or len(told) <= width else told[: width - 1].rstrip() + "…"
