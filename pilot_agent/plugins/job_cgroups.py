"""Whether HTCondor can give each job a control group of its own, below the pilot's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilot_agent.model import Fact

_VERSION = "HTCondor without root's rights makes groups of version 2 only, and this node has {}"
_OCCUPIED = (
    "groups could be made, but controllers only where the pilot's own processes are not: whoever starts the pilot must "
    "put it into a group below the one that is delegated"
)


def why_no_cgroups(facts: Mapping[str, Fact]) -> str:
    """The reason for which jobs have no control group of their own here."""
    delegated, version = facts.get("cgroup.delegated"), facts.get("cgroup.version")
    if delegated is None or not delegated.known:
        return f"it is not known whether groups can be made: {delegated.detail if delegated else 'no probe looked'}"
    if not delegated.value:
        return delegated.detail
    if version is not None and version.known and version.value != "v2":
        return _VERSION.format(version.value)
    return _OCCUPIED
