"""A strict reader of our own pages: every element closed where it should be, nothing that runs, loads or leads away."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "br"}
ELEMENTS = frozenset(
    {"html", "head", "meta", "title", "style", "body", "header", "main", "footer", "nav", "section", "div", "span"}
    | {"p", "h1", "h2", "h3", "b", "i", "small", "code", "a", "ul", "ol", "li", "dl", "dt", "dd", "details", "summary"}
    | {"table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "svg", "g", "rect"}
    | {"line", "text"}
)
ATTRIBUTES = frozenset(
    {"charset", "http-equiv", "content", "name", "lang", "class", "id", "href", "download", "title", "role", "scope"}
    | {"data-head", "aria-label", "aria-hidden", "x", "y", "x1", "x2", "y1", "y2", "dx", "rx", "width", "height"}
    | {"xmlns", "text-anchor"}
)
LINK = re.compile(r"#[a-z]+|data:application/json;base64,[A-Za-z0-9+/=]*")


class Page(HTMLParser):
    """The texts, links and tables of a page. Raises ``AssertionError`` for what no page of ours holds."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        page.encode("utf-8")
        assert page.startswith("<!DOCTYPE html>\n")
        self.feed(page)
        self.close()
        assert self.open == []
        assert len(set(self.ids)) == len(self.ids)

    @property
    def text(self) -> str:
        """All text that a reader sees, on one line."""
        return " ".join("".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        assert tag in ELEMENTS, f"<{tag}> in {self.open}"
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names)
        assert set(names) <= ATTRIBUTES, f"<{tag}> has {names}"
        assert tag != "style" or not attrs
        for name, value in attrs:
            assert value is not None
            if name == "href":
                assert LINK.fullmatch(value), value[:80]
                self.links.append(value)
            if name == "id":
                self.ids.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """An element ends: the one that was opened last."""
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Text; that of the style sheet is none."""
        if "style" not in self.open:
            self.texts.append(data)
            self.texts.append(" " if self.open and self.open[-1] in ("td", "th", "li", "p", "dt", "dd") else "")

    def handle_comment(self, data: str) -> None:
        """A comment: we write none."""
        raise AssertionError(f"a comment: {data}")

    def unknown_decl(self, data: str) -> None:
        """A marked section: we write none."""
        raise AssertionError(f"a marked section: {data}")
