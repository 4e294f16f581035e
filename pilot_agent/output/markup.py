"""HTML and SVG that cannot be broken by what is put into it: a text is escaped unless it is ``Markup`` already."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

VOID = frozenset({"meta", "br"})


class Markup(str):
    """A text that is HTML. Made only by this module and from constants."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: str | None) -> Markup:
    """One element. Attributes are escaped; of their names a last underscore goes and others become hyphens; one that
    is None is left out. Children that are no ``Markup`` are text."""
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value, quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{words}>")
    return Markup(f"<{name}{words}>{joined(children)}</{name}>")


def joined(children: Iterable[str]) -> Markup:
    """The children one after the other, texts escaped."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child, quote=True) for child in children))


def table(caption: str, heads: Iterable[str], rows: Iterable[Iterable[str]], *, kind: str = "") -> Markup:
    """A table with a caption and a head. A narrow page shows each row as a block, each cell below the name of its
    column (the style sheet does it); the roles keep it a table for those who listen to the page."""
    names = list(heads)
    cells = [
        tag("tr", *(_cell(head, cell, n) for n, (head, cell) in enumerate(zip(names, row, strict=True))), role="row")
        for row in rows
    ]
    head = tag("tr", *(tag("th", name, scope="col", role="columnheader") for name in names), role="row")
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", head, role="rowgroup"),
        tag("tbody", *cells, role="rowgroup"),
        role="table",
        class_=kind or None,
    )


def _cell(head: str, content: str, place: int) -> Markup:
    empty = "empty" if not content else None
    if place == 0:
        return tag("th", content, scope="row", role="rowheader", class_=empty)
    return tag("td", content, role="cell", data_head=head, class_=empty)
