"""Accounts that an account may use in its user namespaces: /etc/subuid, /etc/subgid, and the helpers that map them."""

from __future__ import annotations

from collections.abc import Iterable

from pilot_agent.model import Fact, Json
from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import parse_integer

NAME = "userns.subids"
FILES = ("/etc/subuid", "/etc/subgid")
_HELPERS = ("newuidmap", "newgidmap")
_DIRECTORIES = ("/usr/bin", "/bin")


def parse_subids(text: str, owners: Iterable[str]) -> list[list[int]]:
    """The ranges ``[first, count]`` of the owners in a subuid(5) or subgid(5) file, in its order."""
    wanted = frozenset(owners)
    ranges = []
    for line in text.splitlines():
        owner, _, span = line.partition(":")
        first, count = (parse_integer(part) for part in [*span.split(":"), ""][:2])
        if owner in wanted and first is not None and count:
            ranges.append([first, count])
    return ranges


def account_name(passwd: str, uid: int) -> str | None:
    """The name of an account in a passwd(5) file; None for one that only a directory service knows."""
    for line in passwd.splitlines():
        fields = line.split(":")
        if len(fields) > 2 and parse_integer(fields[2]) == uid:
            return fields[0]
    return None


def find_subids(node: Node, uid: int | None, user: str) -> Fact:
    """``userns.subids``: the account's ranges and which of the helpers newuidmap and newgidmap it may run; ``user`` is
    the name that its environment gives it."""
    if uid is None:
        return Fact.unknown(NAME, "the pilot's account is not known")
    texts = [node.read(path) for path in FILES]
    name = account_name(node.read("/etc/passwd") or "", uid) or user
    owners = [owner for owner in (name, str(uid)) if owner]
    ranges = [parse_subids(text or "", owners) for text in texts]
    able = [helper for helper in _HELPERS if _is_able(node, helper)]
    if not any(ranges):
        line = f"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name or uid}"
        where = " and ".join(FILES)
        why = f"no range of the account {name or uid} in {where}; containers with several accounts need: {line}"
        return node.absence(NAME, why, *FILES)
    value: Json = {"uid_ranges": ranges[0], "gid_ranges": ranges[1], "helpers": able}
    missing = [helper for helper in _HELPERS if helper not in able]
    detail = f"no usable {' and '.join(missing)}; the site must install the package uidmap or shadow-utils"
    return Fact(NAME, value, source=", ".join(FILES), detail=detail if missing else "")


def _is_able(node: Node, helper: str) -> bool:
    """Open to everyone: some distributions make it setuid, others (Fedora, EL8 on) give the file capabilities."""
    for directory in _DIRECTORIES:
        status = node.status(f"{directory}/{helper}")
        if status is not None:
            return status.kind == "file" and bool(status.mode & 0o001)
    return False
