"""Where a workspace can be: candidates in order, and for each a verdict from really writing and running there."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pilot_agent.codec import from_json_or_none, to_json
from pilot_agent.probes.answers import Answer
from pilot_agent.probes.disk.directory_trial import DirectoryTrial, try_directory
from pilot_agent.probes.disk.directory_trials import is_absolute, try_all
from pilot_agent.probes.disk.quota import Quota
from pilot_agent.probes.mountinfo import Mount, mount_of, read_mounts
from pilot_agent.probes.node import Node

ASSESS_SECONDS = 5.0
MINIMUM_INODES = 1000
CURRENT_DIRECTORY = "current directory"
# What batch systems and grids make or name for one job: HTCondor; Slurm's tmpfs plugins and sites; most systems (LSF
# with LSB_SET_TMPDIR, SGE, PBS, Slurm); PBS Professional's sandbox; gLite; OSG; TeraGrid.
_OF_THE_JOB = (
    *("_CONDOR_SCRATCH_DIR", "SLURM_TMPDIR", "TMPDIR", "PBS_JOBDIR", "EDG_WL_SCRATCH", "OSG_WN_TMP"),
    *("TG_NODE_SCRATCH", "LOCAL_SCRATCH"),
)
_LAST_RESORTS = ("/tmp", "/var/tmp")  # noqa: S108 - a candidate; the workspace in it is a new directory, mode 0700
# Often a cluster's shared file system, which many pilots at once would burden.
_OF_THE_CLUSTER = ("SCRATCHDIR", "SCRATCH", "TG_CLUSTER_SCRATCH", "TMP", "TEMP")
_MEMORY = frozenset({"tmpfs", "ramfs"})


@dataclass(frozen=True, slots=True)
class ScratchVerdict:
    """What a directory is good for.

    ``usable`` when a pilot can live there; ``reason`` says why not, ``warning`` what to mind all the same. Fields are
    None where it did not come to finding them out; ``real`` is the path without links. ``free_mib`` and ``free_inodes``
    are the smallest of what the file system (``room_mib``) and the ``quotas`` leave; ``kind`` is the file system's
    type, ``device`` its number, ``memory`` true when it is memory.
    """

    path: str
    usable: bool
    reason: str = ""
    real: str = ""
    free_mib: int | None = None
    free_inodes: int | None = None
    writable: bool | None = None
    executable: bool | None = None
    kind: str | None = None
    shared: bool | None = None
    warning: str = ""
    room_mib: int | None = None
    total_mib: int | None = None
    device: str | None = None
    source: str | None = None
    memory: bool | None = None
    quotas: tuple[Quota, ...] = ()


@dataclass(frozen=True, slots=True)
class ScratchChoice:
    """The first candidate that will do, and the verdicts on those refused before it."""

    chosen: ScratchVerdict | None
    refused: tuple[ScratchVerdict, ...]


def scratch_candidates(
    configured: Sequence[str], environment: Mapping[str, str], *, directory: str | None = None
) -> dict[str, str]:
    """Directory -> where it was named, best first: configured, the batch system's, the current one, the usual ones,
    the cluster's.

    ``directory`` stands for the current directory, empty for one that was removed; without it, it is this process's.
    """
    found: dict[str, str] = {}
    for path in configured:
        found.setdefault(path, "configuration site.scratch")
    for variable in _OF_THE_JOB:
        if environment.get(variable):
            found.setdefault(environment[variable], variable)
    current = directory
    if current is None:
        with contextlib.suppress(FileNotFoundError):
            current = os.getcwd()
    if current:
        found.setdefault(current, CURRENT_DIRECTORY)
    for path in _LAST_RESORTS:
        found.setdefault(path, "usual place")
    for variable in _OF_THE_CLUSTER:
        if environment.get(variable):
            found.setdefault(environment[variable], variable)
    return found


def choose_scratch(candidates: Iterable[str], minimum_mib: int, *, seconds: float = ASSESS_SECONDS) -> ScratchChoice:
    """The first candidate with ``minimum_mib`` free where files can be written and executed.

    Each is tried in a child with a deadline, one after the other, so that no more is written than needed; after the
    first that hangs all others at once, so that hung file systems cost one deadline more and not one each.
    """
    node = Node()
    mounts = read_mounts(node)
    waiting = list(dict.fromkeys(candidates))
    refused: list[ScratchVerdict] = []
    at_once = False
    while waiting:
        batch, waiting = (waiting, []) if at_once else (waiting[:1], waiting[1:])
        answers = try_all(node, batch, mounts, seconds=seconds)
        for path in batch:
            verdict = judge(path, answers[path], mounts, minimum_mib=minimum_mib, seconds=seconds)
            if verdict.usable:
                return ScratchChoice(verdict, tuple(refused))
            refused.append(verdict)
        at_once = any(answer.hung for answer in answers.values())
    return ScratchChoice(None, tuple(refused))


def assess_with_deadline(
    directory: str, *, minimum_mib: int = 0, mounts: Sequence[Mount] = (), deadline_seconds: float = ASSESS_SECONDS
) -> ScratchVerdict:
    """``assess`` in a child of its own; a directory that does not answer in time is refused for that."""
    node = Node()
    known = mounts or read_mounts(node)
    answer = try_all(node, [directory], known, seconds=deadline_seconds)[directory]
    return judge(directory, answer, known, minimum_mib=minimum_mib, seconds=deadline_seconds)


def assess(
    directory: str, *, minimum_mib: int = 0, mounts: Sequence[Mount] = (), run_program: bool = True
) -> ScratchVerdict:
    """The verdict on one directory, tried in this process: for one that cannot hang."""
    known = mounts or read_mounts(Node())
    if not is_absolute(directory):
        return judge(directory, Answer(), known)
    tried = try_directory(directory, known, run_program=run_program)
    return judge(directory, Answer(to_json(tried)), known, minimum_mib=minimum_mib)


def judge(
    path: str, answer: Answer, mounts: Sequence[Mount], *, minimum_mib: int = 0, seconds: float = ASSESS_SECONDS
) -> ScratchVerdict:
    """What the raw answer of a trial says of a directory: it exists, has room, takes a file that reaches the disk, lets
    it be executed, and lets nobody else put something in the place of what a pilot makes there."""
    if not is_absolute(path):
        return ScratchVerdict(path, False, "it is no absolute path")
    mount = mount_of(mounts, os.path.normpath(path))
    if answer.hung:
        return _unknown(path, f"it does not answer within {seconds:g} s: {_what_hangs(mount)}", mount)
    tried = from_json_or_none(DirectoryTrial, answer.value) if not answer.problem else None
    if tried is None:
        reason = answer.problem if not answer.recorded else f"it could not be tried: {answer.problem or 'no answer'}"
        return _unknown(path, reason, mount)
    if tried.look:
        return ScratchVerdict(path, False, _reason("it cannot be looked at", tried.look))
    if not tried.directory:
        return ScratchVerdict(path, False, "it is no directory")
    return _of_a_directory(path, tried, mount_of(mounts, tried.real), minimum_mib)


def _of_a_directory(path: str, tried: DirectoryTrial, mount: Mount | None, minimum_mib: int) -> ScratchVerdict:
    free_mib, bounding = _least(tried.free_bytes, [(each.free_bytes, each.source) for each in tried.quotas])
    free_mib = None if free_mib is None else free_mib >> 20
    free_inodes, _ = _least(tried.free_inodes, [(each.free_inodes, each.source) for each in tried.quotas])
    unwritable = tried.make or tried.write
    reason = (
        _unwritable(tried)
        or tried.replaceable
        or _too_small(free_mib, free_inodes, minimum_mib, bounding)
        or _forbidden(tried, mount)
    )
    memory = mount.kind in _MEMORY if mount else None
    return ScratchVerdict(
        path=path,
        usable=not reason,
        reason=reason,
        real=tried.real,
        free_mib=free_mib,
        free_inodes=free_inodes,
        writable=not unwritable,
        executable=None if unwritable else not tried.execute,
        kind=mount.kind if mount else None,
        shared=mount.shared if mount else None,
        warning=f"it is memory ({mount.kind}): files there count as memory of the job" if memory and mount else "",
        room_mib=None if tried.free_bytes is None else tried.free_bytes >> 20,
        total_mib=None if tried.total_bytes is None else tried.total_bytes >> 20,
        device=mount.device if mount else None,
        source=mount.source if mount else None,
        memory=memory,
        quotas=tried.quotas,
    )


def _unknown(path: str, reason: str, mount: Mount | None) -> ScratchVerdict:
    kind, shared = (mount.kind, mount.shared) if mount else (None, None)
    return ScratchVerdict(path, False, reason, kind=kind, shared=shared)


def _what_hangs(mount: Mount | None) -> str:
    if mount is None or mount.point == "/":
        return "it hangs"
    return f"{mount.point} hangs ({mount.kind} from {mount.source}); the site repairs or unmounts it"


def _least(number: int | None, others: Sequence[tuple[int | None, str]]) -> tuple[int | None, str]:
    """The smallest number that is known, and what it came from; the file system itself has no name here."""
    known = [(number, "")] if number is not None else []
    known += [(other, source) for other, source in others if other is not None]
    return min(known, default=(None, ""), key=lambda each: each[0])


def _too_small(free_mib: int | None, free_inodes: int | None, minimum_mib: int, bounding: str) -> str:
    if free_mib is not None and free_mib < minimum_mib:
        by = f" by the {bounding}" if bounding else ""
        return f"{free_mib} MiB are free{by}, {minimum_mib} are needed"
    if free_inodes is not None and free_inodes < MINIMUM_INODES:
        return f"{free_inodes} files can still be made there (free inodes), {MINIMUM_INODES} are needed"
    return ""


def _unwritable(tried: DirectoryTrial) -> str:
    if tried.make:
        return _reason("no file can be made there", tried.make)
    return _reason("a file cannot be written there", tried.write) if tried.write else ""


def _forbidden(tried: DirectoryTrial, mount: Mount | None) -> str:
    if tried.execute == "noexec":
        again = f"; the site runs `mount -o remount,exec {mount.point}`" if mount else ""
        return f"programs cannot be executed there: it is mounted noexec{again}"
    if tried.execute:
        return f"programs cannot be executed there ({tried.execute}): a security module forbids it"
    return ""


def _reason(what: str, problem: str) -> str:
    number = getattr(errno, problem, None)
    meaning = os.strerror(number) if isinstance(number, int) else problem
    return f"{what}: it is full ({meaning})" if problem in ("ENOSPC", "EDQUOT") else f"{what}: {meaning}"
