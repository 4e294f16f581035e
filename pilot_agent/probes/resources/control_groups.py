"""The control groups around the pilot: which version, its own place in them, and whether it may divide that."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, Finding
from pilot_agent.probes.answers import Answer
from pilot_agent.probes.mountinfo import read_mounts
from pilot_agent.probes.node import Node
from pilot_agent.probes.resources.cgroup import OwnGroup, own_groups

_MEMBERSHIPS = "/proc/self/cgroup"
_FACTS = ("version", "path", "controllers", "delegated", "delegated_controllers")
_REMOVAL_SECONDS = 2.0


def probe_cgroup(context: Context) -> Iterator[Finding]:
    """``cgroup.version`` (v1, v2, hybrid, none), ``path`` (of the own group), ``controllers`` (a list), ``delegated``
    (groups can be made below it and entered; really tried) and ``delegated_controllers`` (what those can bound)."""
    node = Node.of(context)
    listed = node.read(_MEMBERSHIPS)
    groups = own_groups(node)
    if not groups:
        yield from _without_groups(node, listed)
        return
    yield _version(groups, unified=any(mount.kind == "cgroup2" for mount in read_mounts(node)))
    yield _path(groups)
    yield _controllers(node, groups)
    yield from _delegation(node, groups)


def _without_groups(node: Node, listed: str | None) -> Iterator[Fact]:
    if listed is None and not node.exists("/proc/self/status"):
        for name in _FACTS:
            yield Fact.unknown(f"cgroup.{name}", f"{_MEMBERSHIPS} could not be read", source=_MEMBERSHIPS)
        return
    yield Fact("cgroup.version", "none", source=_MEMBERSHIPS)
    for name in _FACTS[1:]:
        yield node.absence(f"cgroup.{name}", "this kernel has no control groups", _MEMBERSHIPS, source=_MEMBERSHIPS)


def _version(groups: Sequence[OwnGroup], *, unified: bool) -> Fact:
    from pilot_agent.probes.resources.delegation import version_of

    version = version_of(groups, unified=unified)
    unseen = [group for group in groups if group.directory is None and (group.controllers or version == "v2")]
    names = ", ".join(",".join(group.controllers) or "version 2" for group in unseen)
    detail = f"not mounted where the pilot can see them: {names}" if unseen else ""
    return Fact("cgroup.version", version, source=_MEMBERSHIPS, detail=detail)


def _path(groups: Sequence[OwnGroup]) -> Fact:
    """The own path: with version 1 that of memory, the one that kills; the others in the detail where they differ."""
    first = [group for group in groups if "memory" in group.controllers] + [
        group for group in groups if group.controllers
    ]
    own = (first or list(groups))[0]
    others = [f"{','.join(group.controllers) or 'version 2'}: {group.path}" for group in groups if group != own]
    differ = any(group.path != own.path for group in groups)
    return Fact("cgroup.path", own.path, source=_MEMBERSHIPS, detail="; ".join(others) if differ else "")


def _controllers(node: Node, groups: Sequence[OwnGroup]) -> Fact:
    seen = [group for group in groups if group.directory is not None]
    name = "cgroup.controllers"
    files = [f"{group.directory}/cgroup.controllers" for group in seen if group.version == 2]
    source = files[0] if len(files) == len(seen) and files else _MEMBERSHIPS
    if not seen:
        return Fact.unknown(name, "the own group is not mounted where the pilot can see it", source=source)
    found = {each for group in seen for each in group.controllers}
    if not found and not all(map(node.exists, files)):
        return Fact.unknown(name, f"{source} could not be read", source=source)
    return Fact(name, sorted(found), source=source)


def _delegation(node: Node, groups: Sequence[OwnGroup]) -> Iterator[Fact]:
    from pilot_agent.probes.resources.delegation import judge
    from pilot_agent.probes.resources.delegation_trial import MAKE, NAME, TEST, read_trials, try_delegation

    if not any(group.directory for group in groups):
        yield from judge(groups, Answer())
        return
    name = f"{NAME}{os.getpid()}-{os.urandom(4).hex()}"
    answer = node.ask(TEST, lambda: try_delegation(groups, name))
    trials = read_trials(answer.value)
    # A trial that was cut in the middle may have made groups as well.
    made = trials is None or any(trial.steps.get(MAKE) == "" for trial in trials)
    yield from judge(groups, answer, _remove(node, groups, name) if made else [])


def _remove(node: Node, groups: Sequence[OwnGroup], name: str) -> list[str]:
    """Remove what the trial made; what is left of it."""
    from pilot_agent.probes.resources.delegation_trial import REMOVAL, remove_trial

    removed = node.ask(REMOVAL, lambda: remove_trial(groups, name), seconds=_REMOVAL_SECONDS)
    if removed.problem and removed.recorded:
        return [f"{name} ({removed.problem})"]
    return [str(each) for each in removed.value] if isinstance(removed.value, list) else []
