"""What an index says of each tarball that somebody published, and which of them can run on this node.

An index is believed for a reason that is not in this module: it lies in
a directory that only trusted accounts can change, or has the digest that the configuration pins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Generic, TypeVar

from pilot_agent.facts import known_value
from pilot_agent.model import Fact, Failure, FailureKind, Json, PilotError
from pilot_agent.tarballs.publication import Publication

MOST_TARBALLS = 1000
MOST_BYTES = 256 << 20
MOST_UNPACKED_BYTES = 1 << 30
MOST_MEMBERS = 20000

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FORMS = {
    "version": re.compile(r"\d{1,6}(\.\d{1,6}){0,3}"),
    "glibc": re.compile(r"\d{1,3}\.\d{1,3}"),
    "file": re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,199}"),
    "os": re.compile(r"[a-z0-9._-]{1,40}"),
    "os_version": re.compile(r"[A-Za-z0-9._-]{0,40}"),
    "architecture": re.compile(r"[a-z0-9_]{1,40}"),
    "sha256": _DIGEST,
    "tree_sha256": _DIGEST,
}
_MOST = {"size_bytes": MOST_BYTES, "unpacked_bytes": MOST_UNPACKED_BYTES, "members": MOST_MEMBERS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tarball:
    """One tarball. ``os`` and ``os_version`` are those of the distribution that its programs come from, ``glibc`` the
    oldest that they run with. ``size_bytes`` and ``sha256`` are those of the file, ``unpacked_bytes``, ``members`` and
    ``tree_sha256`` of what it unpacks to (``unpacking``)."""

    version: str
    os: str
    os_version: str
    architecture: str
    glibc: str
    file: str
    size_bytes: int
    sha256: str
    unpacked_bytes: int
    members: int
    tree_sha256: str

    FORMS: ClassVar[Mapping[str, re.Pattern[str]]] = {}
    """How the fields look that a kind of its own adds; all of them are strings."""


T = TypeVar("T", bound=Tarball)


@dataclass(frozen=True, slots=True)
class NodeSystem:
    """What of a node decides which tarball runs there; empty where it is not known. ``like`` are the distributions that
    its own is made from (ID_LIKE of os-release). ``no_glibc`` says why there is no glibc, where that is known."""

    os: str = ""
    os_version: str = ""
    like: tuple[str, ...] = ()
    architecture: str = ""
    glibc: str = ""
    no_glibc: str = ""


@dataclass(frozen=True, slots=True)
class Choice(Generic[T]):
    """``fitting`` in the order in which they should be tried; ``refused`` with the reason for each."""

    fitting: tuple[T, ...]
    refused: tuple[tuple[T, str], ...]


def node_system(facts: Mapping[str, Fact]) -> NodeSystem:
    """What the probes found of the operating system."""
    glibc = facts.get("os.glibc")
    absent = glibc is not None and glibc.status == "absent"
    return NodeSystem(
        os=str(known_value(facts, "os.id") or ""),
        os_version=str(known_value(facts, "os.version") or ""),
        like=tuple(map(str, known_value(facts, "os.like") or ())),
        architecture=str(known_value(facts, "os.arch") or ""),
        glibc=str(known_value(facts, "os.glibc") or ""),
        no_glibc=glibc.detail if glibc is not None and absent else "",
    )


def parse_index(content: bytes, place: str, publication: Publication, kind: type[T]) -> tuple[T, ...]:
    """The tarballs that an index lists, as ``kind`` has their fields. Raises ``PilotError`` (artifact.index,
    corruption) for anything else than an index of the publication's schema."""
    try:
        document = json.loads(content)
        if document["schema"] != publication.schema:
            raise _IndexError(f"its schema is {str(document['schema'])[:80]!r}, and {publication.schema} is known")
        entries = document["tarballs"]
        if not isinstance(entries, list) or len(entries) > MOST_TARBALLS:
            raise _IndexError(f"tarballs must be a list of {MOST_TARBALLS} at most")
        return tuple(_entry(entry, f"tarballs[{index}]", kind) for index, entry in enumerate(entries))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        missing = f"{error} is missing" if isinstance(error, KeyError) else "it is no JSON of that form"
        why = str(error) if isinstance(error, _IndexError) else missing
        hint = f"whoever publishes the tarballs makes the index anew with {publication.tool}"
        message = f"{place} is no index of {publication.name}: {why}"
        failure = Failure(FailureKind.CORRUPTION, "artifact.index", message, hint, stage=publication.stage)
        raise PilotError(failure) from error


class _IndexError(ValueError):
    pass


def _entry(entry: Json, where: str, kind: type[T]) -> T:
    if not isinstance(entry, dict):
        raise _IndexError(f"{where} is no mapping")
    names = [field.name for field in fields(kind)]
    if missing := [name for name in names if name not in entry]:
        raise _IndexError(f"{where} lacks {', '.join(missing)}")
    for name, form in {**_FORMS, **kind.FORMS}.items():
        if not isinstance(entry[name], str) or not form.fullmatch(entry[name]):
            raise _IndexError(f"{where}.{name} is {str(entry[name])[:80]!r}")
    for name, most in _MOST.items():
        if type(entry[name]) is not int or not 0 < entry[name] <= most:
            raise _IndexError(f"{where}.{name} is {str(entry[name])[:80]}, and {most} at most is taken")
    # A later index may say more of a tarball; what is known here decides.
    return kind(**{name: entry[name] for name in names})


def numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version, to be compared."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def misfit(tarball: Tarball, node: NodeSystem) -> str:
    """Why the tarball's programs cannot run on the node as far as is known; empty when they may."""
    if node.architecture and tarball.architecture != node.architecture:
        return f"it is for {tarball.architecture}, and this node is {node.architecture}"
    if node.no_glibc:
        return f"it needs glibc, and this node has none: {node.no_glibc}"
    if node.glibc and numbers(tarball.glibc) > numbers(node.glibc):
        return f"it needs glibc {tarball.glibc}, and this node has {node.glibc}"
    return ""


def distance(tarball: Tarball, node: NodeSystem) -> int:
    """How far the tarball's distribution is from the node's: the same release, the same, one of its family, another."""
    if tarball.os == node.os:
        return 0 if tarball.os_version.partition(".")[0] == node.os_version.partition(".")[0] else 1
    return 2 if tarball.os in node.like else 3
