"""ClassAd literals as text, and what periodic scripts print: ``Name = value`` lines."""

from __future__ import annotations

import re

from pilot_agent.model import Json

INTEGER_LIMIT = 2**63
LINES = 1000
_INTEGER = re.compile(r"[+-]?[0-9]+")
_REAL = re.compile(r"[+-]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][+-]?[0-9]+)?")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_WORDS: dict[str, Json] = {"true": True, "false": False, "undefined": None}
_LINE = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*=(?!=|\?=|!=)\s*(.*)")


class NoLiteralError(ValueError):
    """A text that is an expression, or nothing, but no constant; the message says so."""


def parse_literal(text: str) -> Json:
    """The value of a number, a quoted text, true, false or undefined. Raises ``NoLiteralError``."""
    text = text.strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text):
        # No longer than 64 bits, and not a number of so many digits that it takes long.
        number = int(text) if len(text) < 24 else INTEGER_LIMIT
        if -INTEGER_LIMIT < number < INTEGER_LIMIT:
            return number
        raise NoLiteralError(f"{text[:50]!r} is no integer of 64 bits")
    if _REAL.fullmatch(text):
        real = float(text)
        if real in (float("inf"), float("-inf")):
            raise NoLiteralError(f"{text[:50]!r} is larger than every number")
        return real
    quoted = _STRING.fullmatch(text)
    if quoted:
        return re.sub(r'\\(["\\])', r"\1", quoted[1])
    raise NoLiteralError(f"{text[:200]!r} is an expression and no constant")


def parse_ad(text: str) -> tuple[dict[str, Json], list[str]]:
    """The attributes that a periodic script prints, and the lines that are none: expressions and junk."""
    found: dict[str, Json] = {}
    problems = []
    for line in text.splitlines()[:LINES]:
        if not line.strip() or line.lstrip().startswith(("-", "#")):  # the end of an ad, with its options
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            problems.append(f"{line[:100]!r} is no attribute")
            continue
        try:
            found[match[1]] = parse_literal(match[2])
        except NoLiteralError as error:
            problems.append(f"{match[1]}: {error}")
    return found, problems
