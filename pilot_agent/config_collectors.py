"""The grammar of ``pool.collectors``: which collectors there are to choose from, and those that one pilot takes.

A text has groups, separated by semicolons; of each group one alternative, separated by commas, is drawn, as with
GLIDEIN_Collector of GlideinWMS. So is one number of ``host:9620-9660`` and of ``host?sock=name1-20``: large pools have
many collectors on one host. The same pilot always draws the same.

Also the names by which HTCondor's daemons find each other: ``startd.domain``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
DOMAIN = rf"({_LABEL}(\.{_LABEL}){{0,126}})?"
"""A domain without a dot at its ends, or nothing: the node's own."""
_HOST = rf"({_LABEL}(\.{_LABEL}){{0,126}}\.?|\[[0-9A-Fa-f:.]+\])"
_ADDRESS = rf"{_HOST}(:[0-9]{{1,5}}(-[0-9]{{1,5}})?)?(\?[A-Za-z0-9_.=&:%+/\[\]-]+)?"
COLLECTORS = rf"[ ,;]*{_ADDRESS}( *[,;][ ,;]*{_ADDRESS})*[ ,;]*"
LARGEST_PORT = 65535
_FORM = "host[:port] is needed, such as cm.example.org:9618, an IPv6 address in brackets"

_PORTS = re.compile(r"(.*:)([0-9]{1,5})-([0-9]{1,5})(\?.*)?")
_SOCKETS = re.compile(r"(.*[?&]sock=[^&0-9]*)([0-9]{1,5})-[^&0-9]*([0-9]{1,5})(&.*)?")


def collectors_problem(text: str) -> str | None:
    """What is wrong with one text of ``pool.collectors``."""
    addresses = [address.strip(" ") for address in re.split("[,;]", text) if address.strip(" ")]
    if not addresses:
        return f"{text!r} names no collector: {_FORM}"
    return next(filter(None, map(_address_problem, addresses)), None)


def _address_problem(address: str) -> str | None:
    found = re.fullmatch(_ADDRESS, address)
    if not found:
        return f"{address!r} is no address of a collector: {_FORM}"
    ports = re.search(r":([0-9]+)(?:-([0-9]+))?(\?|$)", address.rpartition("]")[2].partition("?")[0])
    if not ports:
        return None
    first, last = int(ports[1]), int(ports[2] or ports[1])
    if not 0 < first <= LARGEST_PORT or not 0 < last <= LARGEST_PORT:
        return f"{address!r} has no TCP port; it is 1 to {LARGEST_PORT}"
    return None if first <= last else f"{address!r} has a range of ports that ends before it begins"


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
