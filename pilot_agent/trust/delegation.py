"""Who signed an artifact without being allowed to: The Update Framework passes over it, and people want to know."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

from pilot_agent.containers.store.errors import StoreError
from pilot_agent.files import read_bounded
from pilot_agent.light import loads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tuf.ngclient import Updater

    from pilot_agent.model import Json

MOST_ROLES = 64
MOST_BYTES = 5 << 20
TARGETS = "targets"


def signed_without_right(updater: Updater, metadata: str, name: str) -> str | None:
    """The role that lists ``name`` though nobody let it; None where no role does that can be had and believed.
    ``metadata`` is the directory of the client, which is up to date."""
    from tuf.api.exceptions import DownloadError, RepositoryError

    for role, path in _delegated(metadata):
        with suppress(RepositoryError, DownloadError, StoreError):
            # Of a name that it may sign, so that its metadata is fetched and verified.
            updater.get_targetinfo(path.replace("*", "-"))
        if name in _read(metadata, role).get(TARGETS, {}):
            return role
    return None


def _delegated(metadata: str) -> Iterator[tuple[str, str]]:
    """The delegated roles, each with a pattern of what it may sign."""
    delegations = _read(metadata, TARGETS).get("delegations", {})
    for role in delegations.get("roles", [])[:MOST_ROLES]:
        for path in role.get("paths", [])[:1]:
            yield role["name"], path


def _read(metadata: str, role: str) -> dict[str, Json]:
    """What the client keeps of a role, which was verified before it was written; nothing where there is none."""
    try:
        content = read_bounded(os.path.join(metadata, f"{quote(role, '')}.json"), limit_bytes=MOST_BYTES)
        signed: dict[str, Json] = loads(content)["signed"]
    except FileNotFoundError:
        return {}
    return signed
