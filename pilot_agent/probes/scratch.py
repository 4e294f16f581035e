"""Where a workspace can be: candidates in order, and for each a verdict from really writing and running there."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from pilot_agent.probes.mountinfo import Mount, mount_of, read_mounts
from pilot_agent.probes.node import Node
from pilot_agent.process import Runner, run
from pilot_agent.trust.local import replaceable_by_others

ASSESS_SECONDS = 5.0
MINIMUM_INODES = 1000
_BLOCK = b"\0" * 65536
# A program and no shell: the file itself must be executed, and this interpreter only ends.
_PROGRAM = b"#!/bin/true\n"
_VARIABLES = ("_CONDOR_SCRATCH_DIR", "SLURM_TMPDIR", "TMPDIR", "PBS_JOBDIR")
CURRENT_DIRECTORY = "current directory"
TRIAL_PREFIX = ".pilot-agent-"
_LAST_RESORTS = ("/tmp", "/var/tmp")  # noqa: S108 - a candidate; the workspace in it is a new directory, mode 0700


@dataclass(frozen=True, slots=True)
class ScratchVerdict:
    """What a directory is good for. ``usable`` when a pilot can live there; ``reason`` says why not. Fields are None
    where it did not come to finding them out; ``kind`` is the file system's type."""

    path: str
    usable: bool
    reason: str = ""
    free_mib: int | None = None
    free_inodes: int | None = None
    writable: bool | None = None
    executable: bool | None = None
    kind: str | None = None
    shared: bool | None = None


@dataclass(frozen=True, slots=True)
class ScratchChoice:
    """The first candidate that will do, and the verdicts on those refused before it."""

    chosen: ScratchVerdict | None
    refused: tuple[ScratchVerdict, ...]


def scratch_candidates(
    configured: Sequence[str], environment: Mapping[str, str], *, directory: str | None = None
) -> dict[str, str]:
    """Directory -> where it was named, best first: configured, the batch system's, the current one, the usual ones.

    ``directory`` stands for the current directory; a current directory that was removed is left out.
    """
    found: dict[str, str] = {}
    for path in configured:
        found.setdefault(path, "configuration site.scratch")
    for variable in _VARIABLES:
        if environment.get(variable):
            found.setdefault(environment[variable], variable)
    with contextlib.suppress(FileNotFoundError):
        found.setdefault(directory or os.getcwd(), CURRENT_DIRECTORY)
    for path in _LAST_RESORTS:
        found.setdefault(path, "usual place")
    return found


def choose_scratch(candidates: Iterable[str], minimum_mib: int) -> ScratchChoice:
    """The first candidate with ``minimum_mib`` free where files can be written and executed.

    Each is tried in a child with a deadline, so that a hung file system costs seconds and not the pilot.
    """
    mounts = read_mounts(Node())
    refused: list[ScratchVerdict] = []
    for path in candidates:
        verdict = assess_with_deadline(path, minimum_mib=minimum_mib, mounts=mounts)
        if verdict.usable:
            return ScratchChoice(verdict, tuple(refused))
        refused.append(verdict)
    return ScratchChoice(None, tuple(refused))


def assess_with_deadline(
    directory: str,
    *,
    minimum_mib: int = 0,
    mounts: Sequence[Mount] = (),
    deadline_seconds: float = ASSESS_SECONDS,
) -> ScratchVerdict:
    """``assess`` in a child of its own; a directory that does not answer in time is refused for that."""
    with Runner() as runner:
        child = runner.start_call(
            lambda: json.dumps(asdict(assess(directory, minimum_mib=minimum_mib, mounts=mounts))).encode(),
            name=directory,
            deadline_seconds=deadline_seconds,
        )
        result = runner.wait(child)
    if result.timed_out:
        return ScratchVerdict(directory, False, f"it does not answer within {deadline_seconds:g} s: it hangs")
    try:
        return ScratchVerdict(**json.loads(result.answer))
    except (ValueError, TypeError):
        _remove_trial(directory, child)
        return ScratchVerdict(directory, False, f"it could not be tried: {result.explain()}")


def _remove_trial(directory: str, pid: int) -> None:
    """Remove what a child left that was killed in the middle of its trial."""
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            if name.startswith(f"{TRIAL_PREFIX}{pid}-"):
                os.unlink(os.path.join(directory, name))


def assess(
    directory: str, *, minimum_mib: int = 0, mounts: Sequence[Mount] = (), run_program: bool = True
) -> ScratchVerdict:
    """The verdict on one directory: it exists, has room, takes a file that reaches the disk, lets it be executed, and
    lets nobody else put something in the place of what a pilot makes there.

    ``mounts`` are the node's, if already read. With ``run_program`` the file is really executed; without, the kernel
    is asked whether it would be. Nothing stays behind.
    """
    if not directory.startswith("/") or "\0" in directory:
        return ScratchVerdict(directory, False, "it is no absolute path")
    try:
        real = os.path.realpath(directory)
        status = os.statvfs(real)
        if not os.path.isdir(real):
            return ScratchVerdict(directory, False, "it is no directory")
    except OSError as error:
        return ScratchVerdict(directory, False, _reason("it cannot be looked at", error))
    mount = mount_of(mounts or read_mounts(Node()), real)
    free_mib = status.f_bavail * status.f_frsize >> 20
    # Some file systems make inodes as needed and report none at all.
    free_inodes = status.f_favail if status.f_files else None
    unwritable, forbidden = _try_file(real, run_program)
    reason = (
        unwritable or replaceable_by_others(directory) or _too_small(free_mib, free_inodes, minimum_mib) or forbidden
    )
    return ScratchVerdict(
        path=directory,
        usable=not reason,
        reason=reason,
        free_mib=free_mib,
        free_inodes=free_inodes,
        writable=not unwritable,
        executable=None if unwritable else not forbidden,
        kind=mount.kind if mount else None,
        shared=mount.shared if mount else None,
    )


def _too_small(free_mib: int, free_inodes: int | None, minimum_mib: int) -> str:
    if free_mib < minimum_mib:
        return f"{free_mib} MiB are free, {minimum_mib} are needed"
    if free_inodes is not None and free_inodes < MINIMUM_INODES:
        return f"{free_inodes} files can still be made there (free inodes), {MINIMUM_INODES} are needed"
    return ""


def _try_file(directory: str, run_program: bool) -> tuple[str, str]:
    """Why no file can be written to disk there, and why none can be executed; each empty when it works."""
    path = os.path.join(directory, f"{TRIAL_PREFIX}{os.getpid()}-{os.urandom(6).hex()}")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o700)
    except OSError as error:
        return _reason("no file can be made there", error), ""
    try:
        try:
            os.fchmod(descriptor, 0o700)
            _write_all(descriptor, _PROGRAM + _BLOCK)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return "", _not_executable(path, run_program)
    except OSError as error:
        return _reason("a file cannot be written there", error), ""
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _not_executable(path: str, run_program: bool) -> str:
    # For a file with the execute bit the kernel refuses this only on a file system mounted noexec.
    if not os.access(path, os.X_OK):
        return "programs cannot be executed there: it is mounted noexec"
    if not run_program:
        return ""
    result = run([path], deadline_seconds=ASSESS_SECONDS, environment={}, output_limit_bytes=4096)
    if result.error in ("EACCES", "EPERM"):
        return f"programs cannot be executed there ({result.error}): a security module forbids it"
    return ""


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _reason(what: str, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{what}: it is full ({error.strerror})"
    return f"{what}: {error.strerror}"
