"""Text from a node made fit to be shown: no control characters, no tricks with direction, no endless lengths."""

from __future__ import annotations

import itertools
import json
import math
import re

from pilot_agent.model import Json

LONGEST = 2000
"""Characters of one text that are shown; a longer one says how much was left out."""
DEEPEST = 4
MOST_ITEMS = 400
LARGEST = 1e24
"""No quantity of a node comes near to it."""

# Control characters but tabulator and line feed, surrogates and non-characters (none of which XML 1.0 allows, or HTML
# parsers take), and the marks that turn the direction of text (Unicode TR 9): they can make a line read as another one.
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufeff]"
    "|[" + "".join(chr(plane * 0x10000 + last) for plane in range(17) for last in (0xFFFE, 0xFFFF)) + "]"
)
REPLACEMENT = "\ufffd"


def clean(text: str) -> str:
    """The text with every character that XML forbids or that would mislead a reader replaced by U+FFFD."""
    return _UNFIT.sub(REPLACEMENT, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """The text on one line, its white space collapsed."""
    return " ".join(clean(text).split())


def moment_text(text: str) -> str:
    """``2026-09-21 05:49:13 UTC`` of the report's ISO 8601; another text on one line."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?Z", text)
    return f"{found[1]} {found[2]} UTC" if found else one_line(text)


def shortened(text: str, longest: int = LONGEST) -> str:
    """At most ``longest`` characters of the text, and how many were left out."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}… ({len(text) - longest} more characters)"


def clipped(text: str, longest: int) -> str:
    """At most ``longest`` characters; an ellipsis is the last of them where something is missing."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def number_text(number: float) -> str:
    """A number without an exponent and without zeros that say nothing; ``unknown`` if it is not finite."""
    if isinstance(number, int):
        return str(number) if abs(number) < 10**30 else "a number of more than 30 digits"
    if not math.isfinite(number):
        return "unknown"
    if number == int(number) and abs(number) < 1e15:
        return str(int(number))
    return f"{number:.4f}".rstrip("0").rstrip(".") if 1e-3 <= abs(number) < 1e15 else f"{number:.3g}"


def finite(value: Json) -> float | None:
    """The value as a finite number: an integer as it is, a boolean as 0 or 1. None when it is no number, or one so
    large that it can only be damage."""
    if not isinstance(value, int | float) or not abs(value) < LARGEST:
        return None
    return int(value) if isinstance(value, int) else value


def seconds_text(seconds: float) -> str:
    """A duration with three digits that count: ``0.052 s``, ``12.3 s``, ``4 min 10 s``."""
    if seconds < 0.9995:
        return f"{seconds:.3f} s"
    if seconds < 99.5:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 100_000 else f"{seconds:.3g} s"


def size_text(mib: float) -> str:
    """A size in the largest unit in which it is at least one: ``23.5 GiB``."""
    size, unit = mib, "MiB"
    for larger in ("GiB", "TiB", "PiB", "EiB"):
        if abs(size) < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.1f} {unit}" if abs(size) < 1e6 else f"{size:.3g} {unit}"


def value_text(value: Json, depth: int = 0) -> str:
    """A fact's value in words: ``yes``, ``4``, ``a, b``, ``key: value; key: value``. Bounded in depth and items."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return number_text(value)
        case str():
            return clean(value) if value else "(empty)"
        case list() | dict() if not value:
            return "none"
        case list() | dict() if depth >= DEEPEST:
            return f"({len(value)} entries)"
        case list():
            parts = [value_text(item, depth + 1) for item in value[:MOST_ITEMS]]
            return _joined(parts, len(value), "; " if any(isinstance(item, dict | list) for item in value) else ", ")
        case dict():
            few = itertools.islice(value.items(), MOST_ITEMS)
            parts = [f"{clean(str(key))}: {value_text(item, depth + 1)}" for key, item in few]
            return _joined(parts, len(value), ", " if depth else "; ")
    return clean(str(value))


def _joined(parts: list[str], total: int, between: str) -> str:
    more = f" and {total - len(parts)} more" if total > len(parts) else ""
    return between.join(parts) + more


def raw_json(value: Json) -> str | None:
    """The value as ASCII JSON; None when it is no JSON or nested too deeply."""
    try:
        return json.dumps(value, indent=1, allow_nan=True)
    except (TypeError, ValueError, RecursionError):
        return None
