"""Why HTCondor does not give each job a control group of its own, below the pilot's (docs/reference/machine-ad.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilot_agent.model import Fact

_VERSION = "HTCondor without root's rights makes groups of version 2 only, and this node has {}"
_NO_MEMORY = "groups could be made, but without the controller of memory: {}"
_OCCUPIED = (
    "groups could be made, but controllers are only handed down by a group without processes, and the pilot leaves its "
    "own and the batch system's where they are; startd.memory_policy: hold has HTCondor hold jobs that use too much"
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
    controllers = facts.get("cgroup.delegated_controllers")
    if controllers is not None and controllers.known and "memory" not in controllers.value:
        return _NO_MEMORY.format(controllers.detail or "it is not enabled for the pilot's group")
    return _OCCUPIED
