"""JSON of strangers, as everything can bear it that later reads it, writes it again, or walks through it."""

from __future__ import annotations

import json
import math

from pilot_agent.model import Json

DEEPEST = 64
"""Lists and mappings in each other. Reports and offers have a dozen; Python's own limit depends on who asks."""


def read_foreign(content: bytes | bytearray | str) -> Json:
    """The document. Raises ``ValueError`` for what is no JSON, and for what ``require_bearable`` refuses."""
    try:
        document = json.loads(content, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    require_bearable(document)
    return document


def require_bearable(document: Json) -> None:
    """Raises ``ValueError`` for a document that is nested too deeply, or has a number that JSON does not know, as
    Python reads one that is too large."""
    level: list[Json] = [document]
    for _ in range(DEEPEST + 1):
        if not all(math.isfinite(one) for one in level if isinstance(one, float)):
            raise ValueError("a number in it is none, or too large")
        outer = [one for one in level if isinstance(one, dict | list)]
        if not outer:
            return
        level = [one for some in outer for one in (some.values() if isinstance(some, dict) else some)]
    raise ValueError(f"it is nested more than {DEEPEST} times")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
