"""CVMFS that the site mounts itself: which repositories answer below ``/cvmfs``, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from pilot_agent import CVMFS
from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact
from pilot_agent.probes.answers import NOT_RECORDED
from pilot_agent.probes.cvmfs.cvmfs import configured_repositories
from pilot_agent.probes.cvmfs.repositories import Examined, RepositoryState, examine, mounted_repositories
from pilot_agent.probes.mountinfo import read_mounts
from pilot_agent.probes.node import Node

REPOSITORY_SECONDS = 20.0
"""More than the probe gives: a first mount through a slow proxy takes longer, and here it decides."""


def find_native(context: Context) -> Iterator[Fact]:
    """``cvmfs.repositories`` that answer, ``cvmfs.refused``, ``cvmfs.revisions`` and ``cvmfs.mount_point``.

    Looks at ``cvmfs.repositories`` of the configuration; without any, at what the node has mounted. A mount that held
    the probe's child for good is not entered again.
    """
    node = Node.of(context)
    wanted = configured_repositories(context.config) or mounted_repositories(read_mounts(node))
    stuck = _stuck_before(context)
    examined = examine(node, [name for name in wanted if name not in stuck], seconds=REPOSITORY_SECONDS)
    if not examined.recorded:
        for name in ("repositories", "refused", "revisions", "mount_point"):
            yield Fact.unknown(f"cvmfs.{name}", NOT_RECORDED)
        return
    states = {state.repository: state for state in examined.repositories} | stuck
    yield from report(replace(examined, repositories=tuple(states[name] for name in dict.fromkeys(wanted))))


def report(examined: Examined) -> Iterator[Fact]:
    """The facts of what was looked at."""
    source = f"stat and readdir below {CVMFS}"
    states = examined.repositories
    yield Fact("cvmfs.repositories", [state.repository for state in states if state.ok], source=source)
    refused = [{"repository": state.repository, "reason": _refusal(state)} for state in states if not state.ok]
    yield Fact("cvmfs.refused", refused, source=source)
    revisions = {state.repository: state.revision for state in states if state.ok and state.revision is not None}
    yield Fact("cvmfs.revisions", revisions, source="extended attribute user.revision")
    if examined.exists:
        yield Fact("cvmfs.mount_point", CVMFS, source="stat")
    else:
        yield Fact.absent("cvmfs.mount_point", examined.problem or f"this node has no {CVMFS}", source="stat")


def _refusal(state: RepositoryState) -> str:
    return f"{state.reason}; {state.remedy}" if state.remedy else state.reason


def _stuck_before(context: Context) -> dict[str, RepositoryState]:
    """The repositories that the probe's children could not be freed from."""
    entries: Sequence[object] = context.value("cvmfs.mounts", [])
    return {
        str(entry["repository"]): RepositoryState(
            str(entry["repository"]),
            "hung",
            str(entry.get("reason", "")),
            str(entry.get("remedy", "")),
            str(entry.get("path", "")),
            stuck=True,
        )
        for entry in entries
        if isinstance(entry, Mapping) and entry.get("stuck") is True and "repository" in entry
    }
