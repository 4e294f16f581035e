"""A table fits where it is shown, and says where something of it is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server_stub.commands.tables import table_lines

CELL = st.text(st.characters(categories=["L", "N"]), max_size=60)
ROWS = st.integers(1, 6).flatmap(lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1))


def test_columns_stand_below_each_other() -> None:
    assert table_lines(("name", "n"), [("a", "10"), ("longer", "")]) == ["name    n", "a       10", "longer"]


def test_the_widest_column_gives_way_first() -> None:
    lines = table_lines(("entry", "why"), [("el9-nodes", "the site replaces all of its switches today")], 30)
    assert lines[1] == "el9-nodes  the site replaces…"


@given(ROWS, st.integers(20, 120))
def test_no_line_is_wider_than_the_terminal(rows: list[list[str]], width: int) -> None:
    columns = [f"c{index}" for index in range(len(rows[0]))]
    lines = table_lines(columns, rows, width)
    assert len(lines) == len(rows) + 1
    assert max(map(len, lines)) <= width


@given(ROWS)
def test_without_a_terminal_nothing_is_cut(rows: list[list[str]]) -> None:
    lines = table_lines(["c"] * len(rows[0]), rows)
    assert all(cell in line for row, line in zip(rows, lines[1:], strict=True) for cell in row)
