"""Directories that could hold the workspace: room, what may be done there, and whether others share them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pilot_agent.codec import from_json_or_none, to_json
from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, Finding, Json, Limit
from pilot_agent.probes.answers import NOT_RECORDED, Answer
from pilot_agent.probes.batch.allocation import read_allocations
from pilot_agent.probes.batch.batch_job import Allocation, Bound
from pilot_agent.probes.disk.directory_trial import DirectoryTrial
from pilot_agent.probes.disk.directory_trials import WORKSPACE, try_all
from pilot_agent.probes.disk.scratch import ASSESS_SECONDS, ScratchVerdict, judge, scratch_candidates
from pilot_agent.probes.disk.write_speed import measure_write, mib_per_second
from pilot_agent.probes.mountinfo import Mount, read_mounts
from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import configured_integer

UNIT = "MiB"
CANDIDATES = "disk.candidates"
FREE = "disk.workspace_free_mib"
SPEED = "disk.write_mib_per_second"
# All trials, the ends of those that hang, and all measurements come to less than the probe's own deadline.
PROBE_SECONDS = 9.0
SPEED_SECONDS = 2.0
ENDING_SECONDS = 2.5


def probe_disk(context: Context) -> Iterator[Finding]:
    """``disk.candidates``, one object per directory; the limits of ``disk.workspace_free_mib``: of the workspace or,
    before there is one, of the directory that would get it; and ``disk.write_mib_per_second`` there, on request.

    Nothing is chosen here.
    """
    yield from disk_facts(context, ASSESS_SECONDS)


def disk_facts(context: Context, seconds: float) -> Iterator[Finding]:
    """The same with another deadline for the trial of all directories."""
    node = Node.of(context)
    started = time.monotonic()
    mounts = read_mounts(node)
    here = node.ask("current directory", os.getcwd, here=True).value
    directory = here if isinstance(here, str) else ""
    candidates = scratch_candidates(configured_scratch(context.config), context.environment, directory=directory)
    answers = try_all(node, list(candidates), mounts, seconds=seconds, workspace=context.workspace)
    if not any(answer.recorded for key, answer in answers.items() if key.startswith("/")):
        for name in (CANDIDATES, FREE, SPEED):
            yield Fact.unknown(name, NOT_RECORDED)
        return
    tried = [judge(path, answers[path], mounts, seconds=seconds) for path in candidates]
    made = _made(answers.get(WORKSPACE), context.workspace, mounts)
    workspace = made or next((each for each in tried if each.usable), None)
    batch_limits = _of_the_batch_system(workspace, tried, read_allocations(node, context.environment))
    yield from _room(workspace, batch_limits, made=made is not None)
    wanted = configured_integer(context.config, "probes", "disk_write_mib")
    speeds = _measure(node, wanted, workspace, tried, started) if wanted else {}
    yield _candidates(node, tried, candidates, mounts, speeds)
    yield _speed(wanted, workspace, speeds)


def _made(answer: Answer | None, path: str | None, mounts: Sequence[Mount]) -> ScratchVerdict | None:
    """The workspace, by the name that it has without links; None when there was none, or none was recorded."""
    if answer is None or not answer.recorded:
        return None
    tried = from_json_or_none(DirectoryTrial, answer.value)
    name = tried.real if tried is not None and tried.real else path
    return judge(name, answer, mounts) if name else None


def configured_scratch(config: Mapping[str, Json]) -> tuple[str, ...]:
    """The directories configured as ``site.scratch``."""
    section = config.get("site")
    paths = section.get("scratch") if isinstance(section, Mapping) else None
    return tuple(path for path in paths if isinstance(path, str)) if isinstance(paths, list | tuple) else ()


def as_json(verdict: ScratchVerdict, origin: str) -> dict[str, Json]:
    """How the fact ``disk.candidates`` shows a directory."""
    return {
        "path": verdict.path,
        "origin": origin,
        "usable": verdict.usable,
        "reason": verdict.reason,
        "warning": verdict.warning,
        "free_mib": verdict.free_mib,
        "total_mib": verdict.total_mib,
        "free_inodes": verdict.free_inodes,
        "writable": verdict.writable,
        "exec": verdict.executable,
        "type": verdict.kind,
        "source": verdict.source,
        "shared": verdict.shared,
        "memory": verdict.memory,
        "quotas": [
            {
                "of": quota.of,
                "id": quota.id,
                "used_mib": quota.used_bytes >> 20,
                "limit_mib": None if quota.limit_bytes is None else quota.limit_bytes >> 20,
                "free_mib": None if quota.free_bytes is None else quota.free_bytes >> 20,
                "free_inodes": quota.free_inodes,
            }
            for quota in verdict.quotas
        ],
    }


def _candidates(
    node: Node,
    verdicts: Sequence[ScratchVerdict],
    origins: Mapping[str, str],
    mounts: Sequence[Mount],
    speeds: Mapping[str, float | str],
) -> Fact:
    source = "a file written to each, synced and run"
    if not mounts:
        source += "; /proc/self/mountinfo cannot be read, so file systems are not known"
    rotating = {
        device: rotates(node, device) for device in dict.fromkeys(each.device for each in verdicts if each.device)
    }
    listed = []
    for verdict in verdicts:
        shown = as_json(verdict, origins[verdict.path])
        shown["rotational"] = rotating.get(verdict.device or "")
        if isinstance(speeds.get(verdict.path), float):
            shown["write_mib_per_second"] = speeds[verdict.path]
        listed.append(shown)
    warnings = [f"{each.path}: {each.warning}" for each in verdicts if each.warning and each.usable]
    return Fact(CANDIDATES, to_json(listed), source=source, detail="; ".join(warnings))


def rotates(node: Node, device: str) -> bool | None:
    """Whether a file system's device (``major:minor``) is a rotating disk, by the kernel's block queue; None for what
    is no block device. A partition has the queue of its disk."""
    target = node.link(f"/sys/dev/block/{device}")
    if target is None:
        return None
    own = os.path.normpath(os.path.join("/sys/dev/block", target))
    for directory in (own, os.path.dirname(own)):
        number = node.read_integer(f"{directory}/queue/rotational")
        if number is not None:
            return number == 1
    return None


def _room(workspace: ScratchVerdict | None, batch_limits: Iterable[Bound], *, made: bool) -> Iterator[Finding]:
    """What the file system, quotas and the batch system leave."""
    if workspace is None:
        yield Fact.absent(FREE, "no directory can hold a workspace")
        return
    if workspace.room_mib is None:
        yield Fact.unknown(FREE, f"{workspace.path}: {workspace.reason}", source=f"statvfs {workspace.path}")
        return
    yield Limit(FREE, workspace.room_mib, UNIT, f"statvfs {workspace.path}" + ("" if made else " (no workspace yet)"))
    for quota in workspace.quotas:
        if quota.free_bytes is not None:
            yield Limit(FREE, quota.free_bytes >> 20, UNIT, f"{quota.source} on {workspace.source}")
    for bound in batch_limits:
        yield Limit(FREE, bound.number, UNIT, bound.source)


def _of_the_batch_system(
    workspace: ScratchVerdict | None, verdicts: Sequence[ScratchVerdict], allocations: Sequence[Allocation]
) -> Iterator[Bound]:
    """What batch systems give the job of the disk: each in its own directory or, where it names none, wherever the job
    writes."""
    real = {verdict.path: verdict.real for verdict in verdicts if verdict.real}
    for allocation in allocations:
        directory = real.get(allocation.scratch or "", allocation.scratch)
        if workspace is not None and (directory is None or _lies_in(workspace.real or workspace.path, directory)):
            yield from allocation.disk_mib


def _lies_in(path: str, directory: str) -> bool:
    return f"{os.path.normpath(path)}/".startswith(f"{os.path.normpath(directory)}/")


def _measure(
    node: Node, mib: int, workspace: ScratchVerdict | None, verdicts: Sequence[ScratchVerdict], started: float
) -> dict[str, float | str]:
    """Path -> speed, or why it was not measured; one directory per file system, one after the other, as they may lie on
    the same disk. The others of a file system have its speed."""
    found: dict[str, float | str] = {}
    by_device: dict[str, float | str] = {}
    for verdict in (*([workspace] if workspace else []), *verdicts):
        if not verdict.usable or verdict.path in found:
            continue
        device = verdict.device or verdict.path
        if device not in by_device:
            left = PROBE_SECONDS - (time.monotonic() - started)
            by_device[device] = _measure_one(node, verdict, mib, left)
        found[verdict.path] = by_device[device]
    return found


def _measure_one(node: Node, verdict: ScratchVerdict, mib: int, left_seconds: float) -> float | str:
    needed = 2 * mib
    if verdict.free_mib is not None and verdict.free_mib < needed:
        return f"not measured: {verdict.free_mib} MiB are free, {needed} are needed for a test with {mib}"
    seconds = min(2 * SPEED_SECONDS, left_seconds - ENDING_SECONDS)
    if seconds < 1 and node.live:
        return "not measured: other directories took too long"
    answer = node.ask(
        f"write speed {verdict.path}",
        lambda: measure_write(verdict.path, mib, seconds / 2),
        seconds=seconds,
    )
    speed = mib_per_second(answer)
    return f"not measured: {answer.problem or 'the answer cannot be read'}" if speed is None else speed


def _speed(wanted: int | None, workspace: ScratchVerdict | None, speeds: Mapping[str, float | str]) -> Fact:
    if not wanted:
        return Fact.unknown(SPEED, "not measured: probes.disk_write_mib is 0")
    found = speeds.get(workspace.path) if workspace else None
    if workspace is None or found is None:
        why = f"{workspace.path}: {workspace.reason}" if workspace else "no directory can hold a workspace"
        return Fact.unknown(SPEED, f"not measured: {why}")
    if isinstance(found, str):
        return Fact.unknown(SPEED, found)
    return Fact(SPEED, found, "MiB/s", source=f"{wanted} MiB written and synced in {workspace.path}")
