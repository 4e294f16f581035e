"""CVMFS as the site runs it: what is configured, what is mounted, and whether each mount answers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from pilot_agent import CVMFS
from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, Finding, Json
from pilot_agent.probes.cvmfs.cvmfs_client import parse_breadcrumb, parse_client_version
from pilot_agent.probes.cvmfs.cvmfs_configuration import (
    DIRECTORY,
    FSTAB,
    CvmfsConfiguration,
    autofs_map,
    read_cvmfs_configuration,
)
from pilot_agent.probes.cvmfs.repositories import (
    Examined,
    RepositoryState,
    examine,
    mounted_repositories,
)
from pilot_agent.probes.mountinfo import Mount, read_mounts
from pilot_agent.probes.node import Node

REPOSITORY_SECONDS = 6.0
"""With what ending a stuck child takes, this stays within the probe's own deadline."""

CLIENT = "/usr/bin/cvmfs2"


def probe_cvmfs(context: Context) -> Iterator[Finding]:
    """``cvmfs.configured`` and ``cvmfs.domains`` (names), ``cvmfs.autofs``, ``cvmfs.writable`` (may this account write
    to the mount point), ``cvmfs.client`` (its version), and ``cvmfs.mounts``: one object for each repository that is
    mounted or named in the configuration's ``cvmfs.repositories``, as ``RepositoryState.as_json`` makes it."""
    yield from cvmfs_facts(context, CVMFS, REPOSITORY_SECONDS)


def cvmfs_facts(context: Context, mount_point: str, seconds: float) -> Iterator[Fact]:
    """The same for CVMFS at another directory, and with another deadline for the repositories together."""
    node = Node.of(context)
    mounts = read_mounts(node)
    configuration = read_cvmfs_configuration(node)
    yield from _configured(node, configuration)
    yield _autofs(node, mounts, mount_point)
    wanted = (*mounted_repositories(mounts, mount_point), *configured_repositories(context.config))
    examined = examine(node, wanted, seconds=seconds, mount_point=mount_point)
    yield _writable(examined, mount_point)
    yield _client(node, examined.repositories)
    yield _mounts(node, examined, configuration)


def configured_repositories(config: Mapping[str, Json]) -> tuple[str, ...]:
    """The pilot's own ``cvmfs.repositories``."""
    section = config.get("cvmfs")
    names = section.get("repositories") if isinstance(section, Mapping) else None
    return tuple(name for name in names if isinstance(name, str)) if isinstance(names, list | tuple) else ()


def _configured(node: Node, configuration: CvmfsConfiguration) -> Iterator[Fact]:
    names, domains = "cvmfs.configured", "cvmfs.domains"
    if not configuration.files and not configuration.repositories and not configuration.domains:
        looked_for = f"no client is configured: there is neither {DIRECTORY}/default.conf nor default.local"
        yield node.absence(names, looked_for, f"{DIRECTORY}/default.local", source=DIRECTORY)
        yield node.absence(domains, looked_for, f"{DIRECTORY}/default.local", source=DIRECTORY)
        return
    sources = dict.fromkeys(source for source in configuration.repositories.values() if source)
    others = ", ".join(configuration.domains)
    detail = f"and any repository of {others}" if others else ""
    source = ", ".join(sources) or ", ".join(configuration.files) or FSTAB
    yield Fact(names, list(configuration.repositories), source=source, detail=detail)
    yield Fact(domains, list(configuration.domains), source=f"{DIRECTORY}/domain.d, CVMFS_STRICT_MOUNT")


def _autofs(node: Node, mounts: Sequence[Mount], mount_point: str) -> Fact:
    name, source = "cvmfs.autofs", "/proc/self/mountinfo"
    if not mounts:
        return Fact.unknown(name, "the mounts of this process cannot be read", source=source)
    if any(mount.kind == "autofs" and mount.point == mount_point for mount in mounts):
        return Fact(name, True, source=source)
    served = autofs_map(node, mount_point)
    if served is not None:
        detail = f"{served} names {mount_point}, but autofs does not serve it; the site runs `systemctl restart autofs`"
        return Fact(name, False, source=source, detail=detail)
    mounted = mounted_repositories(mounts, mount_point)
    return Fact(name, False, source=source, detail="mounted without it" if mounted else "no map names it either")


def _writable(examined: Examined, mount_point: str) -> Fact:
    name, source = "cvmfs.writable", f"access {mount_point}"
    if not examined.recorded:
        return Fact.unknown(name, examined.problem, source=source)
    if examined.exists:
        return Fact(name, examined.writable, source=source)
    if examined.problem.startswith("this node has no"):
        return Fact.absent(name, examined.problem, source=source)
    return Fact.unknown(name, examined.problem, source=source)


def _client(node: Node, states: Sequence[RepositoryState]) -> Fact:
    """The version of the client; of the one that mounted something, as that need not be the installed one."""
    name = "cvmfs.client"
    for state in states:
        if state.client.version:
            return Fact(name, state.client.version, source=f"extended attribute user.version of {state.path}")
    if not node.exists(CLIENT):
        return node.absence(name, f"there is no {CLIENT}", CLIENT, source=CLIENT)
    command = node.run([CLIENT, "--version"])
    version = parse_client_version(command.stdout) if command.ok else None
    if version is None:
        return Fact.unknown(name, command.problem or "it does not tell its version", source=f"{CLIENT} --version")
    return Fact(name, version, source=f"{CLIENT} --version")


def _mounts(node: Node, examined: Examined, configuration: CvmfsConfiguration) -> Fact:
    name, source = "cvmfs.mounts", "each entered and listed; extended attributes"
    if not examined.recorded:
        return Fact.unknown(name, examined.problem, source=source)
    listed = []
    for state in examined.repositories:
        published = _published(node, state.repository, configuration) if state.ok else None
        listed.append(state.as_json() | ({"published": published} if published is not None else {}))
    wrong = [_spoken(state) for state in examined.repositories if not state.ok]
    return Fact(name, listed, source=source, detail="; ".join(wrong))


def _spoken(state: RepositoryState) -> str:
    return f"{state.repository} is {state.state.replace('_', ' ')}: {state.reason}" + (
        f" -> {state.remedy}" if state.remedy else ""
    )


def _published(node: Node, repository: str, configuration: CvmfsConfiguration) -> int | None:
    """When the mounted revision was published, where this account may read the client's cache."""
    base = configuration.values.get("CVMFS_CACHE_BASE") or "/var/lib/cvmfs"
    for directory in ("shared", repository):
        text = node.read(os.path.join(base, directory, f"cvmfschecksum.{repository}"), limit_bytes=1024)
        if text is not None:
            return parse_breadcrumb(text)
    return None
