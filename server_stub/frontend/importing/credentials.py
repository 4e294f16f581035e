"""Credentials of a GlideinWMS frontend: which kinds there are and where they lie. Their files are never opened."""

from __future__ import annotations

from collections.abc import Iterable

from pilot_agent.model import Json
from server_stub.factory.importing.common import name_of
from server_stub.factory.importing.xml import Part

KINDS = {
    "grid_proxy": ("x509", "absfname"),
    "voms_proxy": ("x509", "absfname"),
    "scitoken": ("scitoken", "absfname"),
    "key_pair": ("ssh_key", "keyabsfname"),
}
"""For each type the kind, and the attribute with the path of what is secret."""


def credentials_of(owners: Iterable[Part]) -> dict[str, Json]:
    """``credentials`` for the sites, of frontend and group. What is of another type is left to be told."""
    found: list[dict[str, Json]] = []
    for owner in owners:
        for one in owner.all("security/credentials/credential"):
            kind, where = KINDS.get(one.look("type").partition("+")[0], ("", ""))
            if not kind or not one.look(where).startswith("/"):
                continue
            path = one.take(where)
            if "+" not in one.look("type"):
                one.take("type")
            name = name_of(path.rpartition("/")[2])
            taken = [other["name"] for other in found]
            found.append({"name": f"{name}-{len(found)}" if name in taken else name, "kind": kind, "file": path})
    return {"sites": found} if found else {}
