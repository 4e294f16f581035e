"""The grammar of ``pool.collectors``: which collectors there are to choose from, and those that one pilot takes.

A text has groups, separated by semicolons; of each group one alternative, separated by commas, is drawn, as with
GLIDEIN_Collector of GlideinWMS. So is one number of ``host:9620-9660`` and of ``host?sock=name1-20``: large pools have
many collectors on one host. The same pilot always draws the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

_PORTS = re.compile(r"(.*:)([0-9]{1,5})-([0-9]{1,5})(\?.*)?")
_SOCKETS = re.compile(r"(.*[?&]sock=[^&0-9]*)([0-9]{1,5})-[^&0-9]*([0-9]{1,5})(&.*)?")


def drawn(texts: Iterable[str], pilot_id: str) -> tuple[str, ...]:
    """The addresses that this pilot uses, each once: one of every group, in their order."""
    groups = [group.strip() for text in texts for group in text.split(";") if group.strip()]
    found = []
    for number, group in enumerate(groups):
        alternatives = [one.strip() for one in group.split(",") if one.strip()]
        if not alternatives:
            continue
        chosen = alternatives[_number(f"{pilot_id}/{number}/{group}", len(alternatives))]
        found.append(_one_of_range(_SOCKETS, _one_of_range(_PORTS, chosen, pilot_id), pilot_id))
    return tuple(dict.fromkeys(found))


def _one_of_range(pattern: re.Pattern[str], address: str, pilot_id: str) -> str:
    found = pattern.fullmatch(address)
    if not found or int(found[3]) < int(found[2]):
        return address
    first, last = int(found[2]), int(found[3])
    return f"{found[1]}{first + _number(f'{pilot_id}/{address}', last - first + 1)}{found[4] or ''}"


def _number(seed: str, below: int) -> int:
    """The same number for the same text, spread evenly."""
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8]) % below
