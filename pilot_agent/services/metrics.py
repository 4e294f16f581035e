"""Prometheus' text format (its "Exposition formats", version 0.0.4): the sums that a report keeps."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

LIMIT_BYTES = 1 << 20
"""Of one answer; what follows is not read."""


def sums(content: bytes, names: Collection[str]) -> dict[str, float]:
    """Of each of ``names`` that occurs, the sum of its samples over all labels. Lines that are none, and samples that
    are no finite number, are left out."""
    found: dict[str, float] = {}
    for line in content[:LIMIT_BYTES].decode("utf-8", "replace").split("\n"):
        name, value = _sample(line.strip())
        if name in names and value is not None:
            found[name] = found.get(name, 0.0) + value
    return {name: value for name, value in found.items() if _finite(value)}


def _sample(line: str) -> tuple[str, float | None]:
    if not line or line.startswith("#"):
        return "", None
    length = next((place for place, letter in enumerate(line) if letter in "{ \t"), len(line))
    name, rest = line[:length], line[length:].lstrip()
    if rest.startswith("{"):
        rest = rest[_labels_length(rest) :]
    words = rest.split()
    if len(words) not in (1, 2):  # a value, and perhaps a time
        return "", None
    try:
        value = float(words[0])
    except ValueError:
        return "", None
    return name, value if _finite(value) else None


def _labels_length(text: str) -> int:
    """How many characters the labels at the beginning take; a label's value may hold a brace and an escaped quote."""
    quoted = escaped = False
    for place, letter in enumerate(text):
        if escaped:
            escaped = False
        elif quoted:
            escaped, quoted = letter == "\\", letter != '"'
        elif letter == '"':
            quoted = True
        elif letter == "}":
            return place + 1
    return len(text)


def _finite(value: float) -> bool:
    return value - value == 0
