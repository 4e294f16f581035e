"""Slurm's compressed lists: hosts (``node[01-03,07]``) and numbers per node (``72(x2),36``)."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Compiled when first used, which is only under Slurm.
_COUNT = r"([0-9]{1,9})(?:\(x([0-9]{1,7})\))?"
_RANGE = r"([0-9]{1,12})(?:-([0-9]{1,12}))?"
_MOST_HOSTS = 1 << 17


def parse_counts(text: str, index: int) -> int | None:
    """The number for node ``index`` of the allocation in a list such as ``72(x2),36`` (sbatch(1), OUTPUT
    ENVIRONMENT VARIABLES); None when the list is damaged or shorter."""
    for part in text.strip().split(","):
        match = re.fullmatch(_COUNT, part.strip())
        if match is None:
            return None
        repeated = int(match[2] or 1)
        if index < repeated:
            return int(match[1])
        index -= repeated
    return None


def smallest_count(text: str) -> int | None:
    """The smallest number in such a list; None when it is damaged."""
    matches = [re.fullmatch(_COUNT, part.strip()) for part in text.strip().split(",")]
    numbers = [int(match[1]) for match in matches if match]
    return min(numbers) if numbers and len(numbers) == len(matches) else None


def expand_hosts(text: str) -> tuple[str, ...] | None:
    """The hosts of an expression such as ``a[1-2]b[01-03],c``, in Slurm's order; None when it is damaged or names
    more hosts than any cluster has."""
    hosts: list[str] = []
    for expression in _split(text.strip()):
        expanded = _expand(expression)
        if expanded is None or len(hosts) + len(expanded) > _MOST_HOSTS:
            return None
        hosts += expanded
    return tuple(hosts) or None


def _split(text: str) -> Iterator[str]:
    """The parts between commas that are not within brackets."""
    depth, begin = 0, 0
    for position, character in enumerate(text):
        depth += {"[": 1, "]": -1}.get(character, 0)
        if character == "," and depth == 0:
            yield text[begin:position]
            begin = position + 1
    yield text[begin:]


def _expand(expression: str) -> list[str] | None:
    names = [""]
    rest = expression
    while "[" in rest:
        before, _, rest = rest.partition("[")
        inside, closed, rest = rest.partition("]")
        numbers = _numbers(inside)
        if not closed or numbers is None or len(names) * len(numbers) > _MOST_HOSTS:
            return None
        names = [name + before + number for name in names for number in numbers]
    if not expression or "]" in rest:
        return None
    return [name + rest for name in names]


def _numbers(text: str) -> list[str] | None:
    """``01-03,7`` -> ``01 02 03 7``; the width of the first number is kept."""
    numbers: list[str] = []
    for part in text.split(","):
        match = re.fullmatch(_RANGE, part)
        if match is None:
            return None
        first, last = int(match[1]), int(match[2] or match[1])
        if not 0 <= last - first < _MOST_HOSTS or len(numbers) > _MOST_HOSTS:
            return None
        numbers += [str(number).zfill(len(match[1])) for number in range(first, last + 1)]
    return numbers
