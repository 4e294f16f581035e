"""Directories that could hold the workspace: room, what may be done there, and whether others share them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, Finding, Json
from pilot_agent.probes.answers import NOT_RECORDED
from pilot_agent.probes.mountinfo import mount_of, read_mounts
from pilot_agent.probes.node import Node
from pilot_agent.probes.scratch import ScratchVerdict, assess, assess_with_deadline, scratch_candidates

UNIT = "MiB"


def probe_disk(context: Context) -> Iterator[Finding]:
    """``disk.candidates``, one entry per directory, and ``disk.workspace_free_mib``; nothing is chosen here."""
    node = Node.of(context)
    if not node.live:
        yield Fact.unknown("disk.candidates", NOT_RECORDED)
        yield Fact.unknown("disk.workspace_free_mib", NOT_RECORDED)
        return
    candidates = scratch_candidates(configured_scratch(context.config), context.environment)
    verdicts = _assess_all(node, tuple(candidates))
    listed = [as_json(verdict, candidates[verdict.path]) for verdict in verdicts]
    yield Fact("disk.candidates", listed, source="a file written, a program run")
    yield _workspace(context.workspace, verdicts)


def configured_scratch(config: Mapping[str, Json]) -> tuple[str, ...]:
    """The directories configured as ``site.scratch``."""
    section = config.get("site")
    paths = section.get("scratch") if isinstance(section, Mapping) else None
    return tuple(path for path in paths if isinstance(path, str)) if isinstance(paths, list | tuple) else ()


def as_json(verdict: ScratchVerdict, origin: str) -> Json:
    """How the fact ``disk.candidates`` shows a directory."""
    return {
        "path": verdict.path,
        "origin": origin,
        "usable": verdict.usable,
        "reason": verdict.reason,
        "free_mib": verdict.free_mib,
        "free_inodes": verdict.free_inodes,
        "writable": verdict.writable,
        "exec": verdict.executable,
        "type": verdict.kind,
        "shared": verdict.shared,
    }


def _assess_all(node: Node, paths: Sequence[str]) -> list[ScratchVerdict]:
    """What each directory is good for. One on a network or FUSE file system may hang: it gets a child of its own; and
    one program is run per file system, as they allow it or not as a whole."""
    mounts = read_mounts(node)
    proven: set[str] = set()
    verdicts = []
    for path in paths:
        mount = mount_of(mounts, os.path.normpath(path))
        if mount is not None and mount.shared:
            verdicts.append(assess_with_deadline(path, mounts=mounts))
            continue
        verdict = assess(path, mounts=mounts, run_program=mount is None or mount.point not in proven)
        if mount is not None and verdict.usable:
            proven.add(mount.point)
        verdicts.append(verdict)
    return verdicts


def _workspace(workspace: str | None, verdicts: Sequence[ScratchVerdict]) -> Fact:
    """The free space of the workspace; before there is one, of the directory that would get it."""
    name = "disk.workspace_free_mib"
    if workspace is None:
        best = next((verdict for verdict in verdicts if verdict.usable), None)
        if best is None:
            return Fact.absent(name, "no directory can hold a workspace")
        return Fact(name, best.free_mib, UNIT, source=f"statvfs {best.path}", detail="no workspace was made yet")
    try:
        status = os.statvfs(workspace)
    except OSError as error:
        return Fact.unknown(name, f"{workspace}: {error.strerror}", source=f"statvfs {workspace}")
    return Fact(name, status.f_bavail * status.f_frsize >> 20, UNIT, source=f"statvfs {workspace}")
