"""Repositories mounted and unmounted with the commands of a distribution, each proven by reading it.

One at a time and the configuration repository first, as the client needs it; each command has a deadline. What the
command returns is believed only where it says no: it may return 0 and have mounted an empty directory, and ``stat``
goes on to answer for a client that died (both seen with CVMFS 2.12).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pilot_agent.calls import Called, call
from pilot_agent.cvmfs.distribution import Distribution
from pilot_agent.lifecycle.mounts import is_mount_point
from pilot_agent.lifecycle.spawn import find_program
from pilot_agent.probes.answers import Answer
from pilot_agent.probes.cvmfs.cvmfs_configuration import is_repository_name
from pilot_agent.probes.cvmfs.repositories import RepositoryState, judge, look
from pilot_agent.probes.mountinfo import read_mounts
from pilot_agent.probes.node import Node
from pilot_agent.process import Result, WakeUp, run

MOUNT_SECONDS = 60.0
"""For one repository: a client gives a server that does not answer 22 seconds, and may try a second way."""
PROOF_SECONDS = 30.0
"""For one look: a client holds a read of a server that hangs for 22 to 24 seconds."""
UNMOUNT_SECONDS = 5.0
REASON_LETTERS = 600
LOG_BYTES = 64 << 10

CODES: Mapping[int, str] = {
    2: "its options are wrong",
    3: "permission denied",
    4: "FUSE could not mount it",
    7: "a library of the client does not load on this node",
    8: "client and library are of different versions",
    9: "its cache directory cannot be made",
    11: "its NFS maps cannot be made",
    12: "its cache's quota cannot be kept",
    15: "its public key cannot be read",
    16: "its catalog cannot be had: no such repository, no server was reached, or its signature does not verify",
    17: "it is in maintenance mode",
    18: "the client's state could not be saved",
    20: "it is mounted by another client",
    21: "it is mounted already",
    22: "its history cannot be had",
    23: "no proxy was found (CVMFS_HTTP_PROXY)",
    24: "another client has locked its cache",
    25: "its revision is blacklisted",
    134: "its log file cannot be written",
}
"""What the client's exit codes mean (``loader.h`` of CVMFS, ``enum Failures``)."""
_MOUNT_FAILED = 4


@dataclass(frozen=True, slots=True)
class Mounted:
    """What became of one repository: ``ok`` when it was read at ``path``; otherwise ``reason`` says why not, with the
    client's own words. ``code`` is the exit code of mountrepo where it ended, ``revision`` the catalog's where the
    client tells it."""

    repository: str
    path: str
    ok: bool
    reason: str = ""
    code: int | None = None
    revision: int | None = None
    seconds: float = 0.0


def in_order(distribution: Distribution, repositories: Sequence[str]) -> tuple[str, ...]:
    """These repositories without doubles, the configuration repository before them."""
    first = distribution.configuration_repository()
    return tuple(dict.fromkeys([first, *repositories] if first else repositories))


def mount(
    distribution: Distribution,
    repositories: Sequence[str],
    *,
    environment: Mapping[str, str],
    mount_seconds: float = MOUNT_SECONDS,
    proof_seconds: float = PROOF_SECONDS,
    wake: WakeUp | None = None,
) -> tuple[Mounted, ...]:
    """Mount these repositories; one result for each, in the order of ``in_order``.

    Without its configuration repository none is tried. What does not answer is unmounted again, and leaves no empty
    directory that could be taken for it. Raises ``Interrupted`` when ``wake`` becomes readable.
    """
    found: list[Mounted] = []
    first = distribution.configuration_repository()
    for repository in in_order(distribution, repositories):
        if found and found[0].repository == first and not found[0].ok:
            reason = f"it was not tried without the configuration repository {first}: {found[0].reason}"
            found.append(_not_so(distribution, repository, reason))
            continue
        found.append(_mount_one(distribution, repository, environment, mount_seconds, proof_seconds, wake))
    return tuple(found)


def unmount(
    distribution: Distribution,
    repositories: Sequence[str],
    *,
    environment: Mapping[str, str],
    lazy: bool = False,
    configuration: bool = True,
    wake: WakeUp | None = None,
) -> dict[str, str]:
    """Unmount these repositories, the last first; those that are still mounted, with the reason. The configuration
    repository goes with them unless ``configuration`` is false, as it is where others stay that need it.

    The table of mounts decides: umountrepo's exit code is that of its last rmdir. ``lazy`` takes a repository away
    that is in use; its client lives as long as that use. Raises ``Interrupted`` when ``wake`` becomes readable.
    """
    left: dict[str, str] = {}
    named = in_order(distribution, repositories) if configuration else tuple(dict.fromkeys(repositories))
    for repository in reversed(named):
        said = ""
        for argv in _unmounting(distribution, repository, lazy=lazy):
            if not is_mount_point(distribution.point(repository)):
                break
            ended = run(argv, deadline_seconds=UNMOUNT_SECONDS, environment=environment, wake=wake)
            said = "" if ended.ok else ended.explain()
        if is_mount_point(distribution.point(repository)):
            left[repository] = said or "it is still in the table of mounts"
        else:
            _remove_empty(distribution.point(repository))
    return left


def prove(path: str, repository: str, *, seconds: float = PROOF_SECONDS, wake: WakeUp | None = None) -> RepositoryState:
    """What is at ``path``, read in a child: a listing that is not empty, and the repository's own name where it tells
    anything of itself. Raises ``Interrupted`` when ``wake`` becomes readable."""
    called = call(lambda: _look(path), name=f"the look at {path}", deadline_seconds=seconds, wake=wake)
    answer = _answer_of(called)
    told = answer.value if isinstance(answer.value, Mapping) else {}
    name = told.get("fqrn")
    if name and name != repository:
        return RepositoryState(repository, "broken", f"the repository that is mounted there is {name}", path=path)
    if told.get("attributes") and not name:
        reason = "what is mounted there tells attributes of a client, and not which repository it is (user.fqrn)"
        return RepositoryState(repository, "broken", reason, path=path)
    return judge(repository, path, answer, read_mounts(Node()), seconds)


def _mount_one(
    distribution: Distribution,
    repository: str,
    environment: Mapping[str, str],
    mount_seconds: float,
    proof_seconds: float,
    wake: WakeUp | None,
) -> Mounted:
    path, began = distribution.point(repository), time.monotonic()
    if not is_repository_name(repository):
        return _not_so(distribution, repository, "that is no name of a repository")
    argv = [distribution.mountrepo, repository]
    ended = _mountrepo(argv, mount_seconds, environment, wake)
    if ended.code == _MOUNT_FAILED and is_mount_point(path):
        # What a client that died left there is in the way, and mountrepo does not take it away.
        unmount(distribution, [repository], environment=environment, lazy=True, configuration=False, wake=wake)
        ended = _mountrepo(argv, mount_seconds, environment, wake)
    reason, revision = _why(distribution, repository, ended), None
    if ended.ok:
        state = prove(path, repository, seconds=proof_seconds, wake=wake)
        reason, revision = "", state.revision
        if not state.ok:
            reason = f"mountrepo returned 0, and what it mounted does not answer: {state.reason}"
            reason += _quoted(_last_line(distribution.log(repository)), "its log ends with")
    if reason:
        _take_away(distribution, repository, environment, wake)
    seconds = round(time.monotonic() - began, 4)
    return Mounted(repository, path, not reason, reason[:REASON_LETTERS], ended.code, revision, seconds)


def _mountrepo(argv: list[str], seconds: float, environment: Mapping[str, str], wake: WakeUp | None) -> Result:
    # The client's processes stay behind, and not all of them need leave its process group.
    return run(argv, deadline_seconds=seconds, environment=environment, wake=wake, leaves_daemons=True)


def _take_away(
    distribution: Distribution, repository: str, environment: Mapping[str, str], wake: WakeUp | None
) -> None:
    """Whatever a mount that failed left."""
    for argv in _unmounting(distribution, repository, lazy=True):
        if not is_mount_point(distribution.point(repository)):
            break
        run(argv, deadline_seconds=UNMOUNT_SECONDS, environment=environment, wake=wake)
    _remove_empty(distribution.point(repository))


def _not_so(distribution: Distribution, repository: str, reason: str) -> Mounted:
    return Mounted(repository, distribution.point(repository), False, reason[:REASON_LETTERS])


def _unmounting(distribution: Distribution, repository: str, *, lazy: bool) -> Iterator[list[str]]:
    """The commands that may unmount it, in the order in which they are tried."""
    option = ["-z"] * lazy
    yield [distribution.umountrepo, *option, repository]
    path = distribution.point(repository)
    helpers = [["fusermount3", "-u", *option], ["fusermount", "-u", *option], ["umount", "-n", *(["-l"] * lazy)]]
    for helper in helpers:
        if program := find_program(helper[0]):
            yield [program, *helper[1:], path]


def _remove_empty(path: str) -> None:
    with suppress(OSError):
        os.rmdir(path)


def _look(path: str) -> dict[str, object]:
    found = look(path)
    try:
        found["fqrn"] = os.getxattr(path, "user.fqrn")[:255].decode("utf-8", "replace")
    except OSError:  # many file systems have no such attribute; that it lives was found out before
        found["fqrn"] = ""
    return dict(found)


def _answer_of(called: Called) -> Answer:
    ended = called.ended
    if called.value is not None:
        return Answer(called.value)
    return Answer(problem=ended.explain(), hung=ended.timed_out, stuck=ended.abandoned is not None)


def _why(distribution: Distribution, repository: str, ended: Result) -> str:
    """Why mountrepo did not mount it, with what the client said; empty when it returned 0."""
    if ended.ok:
        return ""
    if ended.code is None or ended.timed_out:
        reason = ended.explain()
    else:
        meaning = CODES.get(ended.code)
        reason = f"mountrepo exited {ended.code}" + (f": {meaning}" if meaning else "")
        reason += _quoted(_said(ended, repository), "it said")
    return reason + _quoted(_last_line(distribution.log(repository)), "its log ends with")


def _said(ended: Result, repository: str) -> str:
    """The client's last words: not those with which mountrepo repeats that it failed."""
    lines = [*ended.stdout.splitlines(), *ended.stderr.splitlines()]
    words = [line.decode("utf-8", "replace").strip() for line in lines]
    told = [line for line in words if line and line != f"mountrepo {repository} failed"]
    return told[-1] if told else ""


def _last_line(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        size = os.fstat(descriptor).st_size
        lines = os.pread(descriptor, LOG_BYTES, max(0, size - LOG_BYTES)).decode("utf-8", "replace").splitlines()
    except OSError:  # a job put something else in its place
        return ""
    finally:
        os.close(descriptor)
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _quoted(text: str, what: str) -> str:
    if not text:
        return ""
    from pilot_agent.probes.redaction import redact  # late: see probes.recording

    return f"; {what}: {redact(text)[:250]}"
