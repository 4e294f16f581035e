"""XML of others, read safely and so that nothing in it is passed over: what nobody takes is left over and can be told.

A document that declares a type, by which entities may be defined, is refused, and so is one that is too large or too
deep. Nothing outside it is ever opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from pilot_agent.model import Failure, FailureKind, PilotError

DEEPEST = 50
MOST_ELEMENTS = 1_000_000
NAMING = ("name", "absfname", "fullname", "node", "relfname")
"""Attributes by which one of several elements of the same kind is told from the others."""


def read_xml(content: bytes) -> Element:
    """The document. Raises ``PilotError`` (config.syntax)."""
    builder, depth, count = TreeBuilder(), 0, 0

    def begin(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1
        if depth > DEEPEST:
            raise _wrong(f"it is deeper than {DEEPEST} elements")
        if count > MOST_ELEMENTS:
            raise _wrong(f"it has more than {MOST_ELEMENTS} elements")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    def refuse(*about: object) -> None:
        raise _wrong("it declares a document type, by which entities may be defined")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(content, True)  # this was all of it
    except expat.ExpatError as error:
        raise _wrong(str(error)) from error
    return builder.close()


def _wrong(what: str) -> PilotError:
    hint = "give the configuration as GlideinWMS has it; whoever imports it must act"
    return PilotError(Failure(FailureKind.CONFIG, "config.syntax", f"the document is not taken: {what}", hint))


class Part:
    """One element with its place in the document. What is taken from it is remembered, and so is the rest."""

    def __init__(self, element: Element, place: str = "") -> None:
        self.tag = element.tag
        self.place = place
        self._given = dict(element.attrib)
        self._text = (element.text or "").strip()
        self._seen = False
        self._taken: set[str] = set()
        self.parts = [Part(one, name) for one, name in zip(element, _places(element, place), strict=True)]

    def take(self, attribute: str, default: str = "") -> str:
        """The value of an attribute, which counts as converted from now on."""
        self._seen = True
        self._taken.add(attribute)
        return self._given.get(attribute, default)

    def look(self, attribute: str, default: str = "") -> str:
        """The value of an attribute, which is still to be converted or told."""
        return self._given.get(attribute, default)

    def all(self, path: str) -> list[Part]:
        """The elements at a path of names, each followed through all elements of its name."""
        self._seen = True
        first, _, rest = path.partition("/")
        found = [part for part in self.parts if part.tag == first]
        for part in found:
            part._seen = True
        return [one for part in found for one in part.all(rest)] if rest else found

    def one(self, path: str) -> Part:
        """The first element at a path, or an empty one where there is none."""
        found = self.all(path)
        return found[0] if found else Part(Element(path.rpartition("/")[2]), f"{self.place}.{path}")

    def pass_over(self) -> None:
        """Everything in it was told in some other way."""
        self._seen = True
        self._taken.update(self._given)
        self._text = ""
        for part in self.parts:
            part.pass_over()

    def left(self) -> Iterator[tuple[str, str]]:
        """The place and the value of everything that nobody took: attributes, texts, and elements without either."""
        for attribute, value in self._given.items():
            if attribute not in self._taken:
                yield f"{self.place}.{attribute}".lstrip("."), value
        if self._text:
            yield self.place, self._text
        if not (self._seen or self._given or self._text or self.parts):
            yield self.place, ""
        for part in self.parts:
            yield from part.left()


def _places(element: Element, place: str) -> Iterator[str]:
    """The place of each element below: its name, and which one it is where there are several."""
    tags = [one.tag for one in element]
    for number, one in enumerate(element):
        named = next((one.attrib[name] for name in NAMING if one.attrib.get(name)), "")
        if not named and tags.count(one.tag) > 1:
            named = str(tags[:number].count(one.tag))
        yield f"{place}.{one.tag}{f'[{named}]' if named else ''}".lstrip(".")
