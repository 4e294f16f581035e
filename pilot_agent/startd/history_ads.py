"""The ads in HTCondor's startd history, as text that hostile jobs wrote a part of.

Each ad ends with a banner, ``*** Offset = N ClusterId = ...``, where N is where the last line before the ad begins:
that of the banner before (seen with HTCondor 23.9). A string with line ends in it could hold a banner of its own. Stock
access points refuse such a string, but a node does not choose its access points. So what ends an ad is found from the
end of the file, banner by banner, and one inside an ad is passed over, whatever it says. Starters that write at the
same moment name the same banner before them; their ads are told apart if every line is one of an ad.

Loaded by the resident keeper: nothing is imported.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import IO

LINE_LIMIT_BYTES = 1 << 16
"""A longer line is passed over: nothing that is read here comes near it."""
VALUE_CHARACTERS = 4096
MOST_BANNERS = 50_000
"""A text with more is no history: an ad takes some kilobytes."""
NAME_CHARACTERS = 100
OWN_ACCORD = "OF_ITS_OWN_ACCORD"
MOST_AT_ONCE = 1000
"""Ads that were written at the same moment; so many are none."""
_LETTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.")
_NO_OWNER = "?"
_BEGAN_AGAIN_SECONDS = 1
"""Times in an ad are whole seconds."""


class Banner:
    """The line that ends an ad; ``offset`` is that of the line before the ad, ``owner`` empty where it has none."""

    __slots__ = ("cluster", "offset", "owner", "process")

    def __init__(self, offset: int, cluster: int, process: int, owner: str) -> None:
        self.offset = offset
        self.cluster = cluster
        self.process = process
        self.owner = owner


class Ad:
    """One ad. Which job it is stands in its banner, which HTCondor wrote; ``end`` is the position after it."""

    __slots__ = ("_values", "banner", "end")

    def __init__(self, banner: Banner, values: dict[str, str], end: int) -> None:
        self.banner = banner
        self.end = end
        self._values = values

    def text(self, name: str) -> str:
        """An attribute's value as it stands in the ad; empty where there is none, or more than one line says it."""
        return self._values.get(name, "")

    def true(self, name: str) -> bool:
        """Whether it is the literal ``true``."""
        return self.text(name).lower() == "true"

    def string(self, name: str) -> str:
        """A string as one short line; empty where it is missing or no string."""
        text = self.text(name)
        if len(text) < 2 or not (text.startswith('"') and text.endswith('"')):
            return ""
        return _short_line(text[1:-1])

    def integer(self, name: str) -> int | None:
        """A number from 0 to 2**31; None for anything else."""
        number = _integer(self.text(name))
        return number if number is not None and number >= 0 else None

    def number(self, name: str) -> float | None:
        """A number, 0 or more and below 1e11; None for anything else."""
        return _number(self.text(name))

    def how(self) -> str:
        """How this run of the job ended by its ticket of execution (``ToE``), which the starter writes when the job's
        process ended; empty where there is none. One of an earlier run comes along in the ad."""
        ticket = self.text("toe")
        written = _number(_member(ticket, "When"))
        if written is None or written < (self.number("jobstartdate") or 0.0) - _BEGAN_AGAIN_SECONDS:
            return ""
        return _member(ticket, "How").strip('"')


def read_ads(file: IO[bytes], wanted: Collection[str], begin: int, end: int) -> Iterator[Ad]:
    """The ads that end between two positions of a file, with the attributes ``wanted`` (in small letters).

    Whatever stands in it, it is bounded and raises nothing but ``OSError``.
    """
    last = _real_banners(file, begin, end)
    group = _Group()
    for position, raw in _lines(file, begin, end):
        banner = _banner(raw)
        if banner is None:
            group.add_line(raw, wanted)
            continue
        after = position + len(raw)
        group.end_ad(banner, after)
        if position in last:
            yield from group.ads(banner, after)
            group = _Group()


class _Group:
    """What stands between two real banners: one ad, or several that were written at the same moment."""

    __slots__ = ("_ads", "_clean", "_lines", "_several", "_values")

    def __init__(self) -> None:
        self._ads: list[Ad] = []
        self._clean = True
        self._lines: dict[str, str] = {}
        """Of the ad that is being read."""
        self._values: dict[str, str] = {}
        """Of all of them."""
        self._several: set[str] = set()
        """Attributes that more than one line says."""

    def add_line(self, raw: bytes, wanted: Collection[str]) -> None:
        """One line that is no banner."""
        self._clean = self._clean and _is_attribute(raw)
        name, equals, value = raw.partition(b"=")
        key = name.strip().lower().decode("ascii", "replace")
        if not equals or key not in wanted:
            return
        if key in self._values:
            self._several.add(key)
        # A second line within one ad: a string with line ends, or two ads that were written into each other.
        self._clean = self._clean and key not in self._lines
        text = value[:VALUE_CHARACTERS].strip().decode("utf-8", "replace")
        self._values[key] = self._lines[key] = text

    def end_ad(self, banner: Banner, end: int) -> None:
        """A banner, real or not."""
        self._clean = self._clean and len(self._ads) < MOST_AT_ONCE
        if self._clean:
            self._ads.append(Ad(banner, self._lines, end))
        else:
            self._ads.clear()
        self._lines = {}

    def ads(self, banner: Banner, end: int) -> list[Ad]:
        """What they are if the last banner is real."""
        if self._clean:
            return self._ads
        return [Ad(banner, {key: text for key, text in self._values.items() if key not in self._several}, end)]


def _real_banners(file: IO[bytes], begin: int, end: int) -> set[int]:
    """Where the banners begin that surely end an ad: the last, the one that it names, and so on. One that names what
    is no banner follows the one before it."""
    found: list[tuple[int, int]] = []
    for position, raw in _lines(file, begin, end):
        banner = _banner(raw)
        if banner is not None:
            found.append((position, banner.offset))
        if len(found) > MOST_BANNERS:  # it is looked at before they are in memory, which the keeper has little of
            return set()
    index_at = {position: index for index, (position, _) in enumerate(found)}
    real, index = set(), len(found) - 1
    while index >= 0:
        position, offset = found[index]
        real.add(position)
        if offset <= begin:
            break
        index = min(index_at.get(offset, index - 1), index - 1)
    return real


def _lines(file: IO[bytes], begin: int, end: int) -> Iterator[tuple[int, bytes]]:
    """The whole lines with their positions, never more than a piece of one in memory; of a long line only that."""
    file.seek(begin)
    position, whole = begin, True
    while position < end and (raw := file.readline(min(end - position, LINE_LIMIT_BYTES))):
        ends = raw.endswith(b"\n")
        if whole and ends:
            yield position, raw
        elif whole:
            yield position, b""
        whole = ends
        position += len(raw)


def _banner(raw: bytes) -> Banner | None:
    """The banner that a line is, None for any other."""
    if not raw.startswith(b"*** "):
        return None
    found: list[int] = []
    rest = raw.decode("utf-8", "replace")
    for name in ("*** Offset", " ClusterId", " ProcId"):
        before, _, rest = rest.partition(" = ")
        text, blank, rest = rest.partition(" ")
        rest = blank + rest
        number = _integer(text)
        if before != name or number is None:
            return None
        found.append(number)
    name, _, owner = rest.partition(' = "')
    owner, quote, _ = owner.partition('"')
    offset, cluster, process = found
    owner = "" if owner == _NO_OWNER else _short_line(owner)
    return Banner(offset, cluster, process, owner) if name == " Owner" and quote else None


def _is_attribute(raw: bytes) -> bool:
    """Whether a line is an attribute, all of it. In the old syntax only a quote is escaped in a string, so of one that
    ends with a backslash nobody can tell where it ends."""
    name, equals, value = raw.rstrip(b"\n").partition(b" = ")
    if not equals or not name or not _LETTERS.issuperset(name):
        return False
    return value.replace(b'\\"', b"").count(b'"') % 2 == 0


def _short_line(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text[:NAME_CHARACTERS]).strip()


def _member(ad: str, name: str) -> str:
    """The text of a member of a nested ad; empty where it has none. What stands in quotes is no member."""
    start, quoted, position = 1, False, 1
    while position < len(ad):
        letter = ad[position]
        if letter == "\\" and quoted:
            position += 1
        elif letter == '"':
            quoted = not quoted
        elif letter in ";]" and not quoted:
            key, equals, value = ad[start:position].partition("=")
            if equals and key.strip().lower() == name.lower():
                return value.strip()
            start = position + 1
        position += 1
    return ""


def _integer(text: str) -> int | None:
    try:
        number = int(text) if len(text) <= 20 else 1 << 31
    except ValueError:
        return None
    return number if -1 <= number < 1 << 31 else None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < 1e11 else None
