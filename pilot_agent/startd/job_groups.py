"""A control group for each job: the group that the batch system gave to the pilot is divided, and HTCondor told of it
only once that was tried.

The kernel hands controllers down from groups without processes only (cgroup-v2.rst, "No Internal Process Constraint"),
so all that is in the group moves into a leaf first: the pilot, what it started, and what started it. HTCondor makes the
jobs' groups in the group above its own, below BASE_CGROUP, and turns on four controllers there, all or none; so that
group is made here, with those that can be had. Everything is undone by ``lifecycle.control_groups``.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.control_groups import AGENT, JOBS, MOUNT, give_back, group_of, members, move, switch, tree
from pilot_agent.lifecycle.control_groups import read_words as words_of
from pilot_agent.lifecycle.control_groups import write_word as write
from pilot_agent.lifecycle.identity import read_stat
from pilot_agent.lifecycle.journal import Journal, read_journal
from pilot_agent.lifecycle.traces import ancestors, below
from pilot_agent.probes.resources.delegation_trial import NAME as TRIALS
from pilot_agent.process import Runner

if TYPE_CHECKING:
    from pilot_agent.process import WakeUp
    from pilot_agent.workspace import Workspace

TRIAL = "trial"
ROUNDS = 20
"""How often the group is looked at for what was started meanwhile."""
TRIAL_SECONDS = 10.0
UNDO_SECONDS = 5.0
NAMED = 5

_ELSEWHERE = (
    "HTCondor looks for control groups at {mount} only, with no hierarchy of version 1 beside them, and the pilot's "
    "own is not found there; whoever starts the pilot must mount version 2 alone, at that place"
)
_STRANGERS = (
    "{group} is shared with processes that are not the pilot's ({names}), and a group with processes cannot hand "
    "controllers down; whoever starts the pilot must give it a group of its own"
)
_NO_CONTROLLER = (
    "{group} has no controller of {needed}; whoever made it must enable that (cgroup.subtree_control above)"
)
_REFUSED = "{group} could not be divided: {what} was refused ({error}); whoever gave it to the pilot must allow that"
_TRIAL_FAILED = "{group} was divided, but no process could be put into a group for a job: {problem}"


@dataclass(frozen=True, slots=True)
class Controllers:
    """``needed`` is the one without which jobs' groups are no use, ``others`` are taken where they can be had."""

    needed: str = "memory"
    others: tuple[str, ...] = ("cpu", "io", "pids")


class Undivided(Exception):  # noqa: N818 - an answer, with the reason as its text
    """The group is as it was."""


def own_group(cgroups: str = "/proc/self/cgroup", mount: str = MOUNT) -> str:
    """The directory of this process's group, where HTCondor finds it too. Raises ``Undivided``."""
    try:
        with open(cgroups, encoding="utf-8", errors="surrogateescape") as file:
            first, *others = file.read(65536).splitlines()
    except (OSError, ValueError):
        first, others = "", []
    directory = (mount + first.removeprefix("0::")).rstrip("/")
    if not first.startswith("0::/") or others or not os.path.exists(f"{directory}/cgroup.procs"):
        raise Undivided(_ELSEWHERE.format(mount=mount))
    return directory


def divide(
    group: str, workspace: Workspace, root: int, *, wanted: Controllers | None = None, wake: WakeUp | None = None
) -> tuple[str, ...]:
    """Divide the directory ``group`` for the jobs of the workspace's pilot; the controllers that jobs' groups have.

    ``root`` is the pilot's outermost process: it, all below it, and those above it that are in the group are moved. The
    journal has it before it is done. Raises ``Undivided`` with the reason when everything is as it was; ``OSError``
    when the journal cannot be written, ``Interrupted`` when ``wake`` becomes readable.
    """
    wanted = wanted or Controllers()
    try:
        offered = words_of(f"{group}/cgroup.controllers")
        before = words_of(f"{group}/cgroup.subtree_control")
        strangers = sorted(set(members(group)) - _family(root))
    except OSError as error:
        raise Undivided(_refused(group, "to look at it", error)) from error
    if wanted.needed not in offered:
        raise Undivided(_NO_CONTROLLER.format(group=group, needed=wanted.needed))
    if strangers and wanted.needed not in before:
        raise Undivided(_STRANGERS.format(group=group, names=_names(strangers)))
    _remove_trials(group)
    handed = [name for name in (wanted.needed, *wanted.others) if name in offered]
    path = f"{group}/{group_of(workspace)}"
    Journal(workspace.journal).group(path, before)
    try:
        _make(group, path, root, handed)
        _try(f"{path}/{JOBS}/{TRIAL}", wanted.needed, wake)
        return tuple(words_of(f"{path}/{JOBS}/cgroup.subtree_control"))
    except OSError as error:
        reason = _refused(group, "to look at what was made", error)
    except Undivided as refusal:
        reason = str(refusal)
    raise Undivided("; ".join([reason, *_undo(workspace)]))


def _remove_trials(group: str) -> None:
    """Remove what a probe left that was killed when it took too long. Where a trial is under way its process is there,
    and the kernel refuses."""
    with suppress(OSError):
        for path in (entry.path for entry in os.scandir(group) if entry.name.startswith(TRIALS)):
            for each in tree(path):
                os.rmdir(each)


def _make(group: str, path: str, root: int, handed: list[str]) -> None:
    for each in (path, f"{path}/{AGENT}", f"{path}/{JOBS}"):
        try:
            os.mkdir(each, 0o755)
        except OSError as error:
            raise Undivided(_refused(group, "to make a group", error)) from error
    _enter(group, f"{path}/{AGENT}", root)
    for each in (group, path, f"{path}/{JOBS}"):
        refused = switch(each, handed, "+")
        if handed[0] in refused:
            others = members(group)
            if refused[handed[0]].errno == errno.EBUSY and others:
                raise Undivided(_STRANGERS.format(group=group, names=_names(others)))
            raise Undivided(_refused(group, f"to hand {handed[0]} down", refused[handed[0]]))


def _enter(group: str, leaf: str, root: int) -> None:
    """Move all that is the pilot's; what is started meanwhile is in the group too."""
    for _ in range(ROUNDS):
        ours = sorted(set(members(group)) & _family(root))
        if not ours:
            return
        for pid, error in move(ours, leaf).items():
            raise Undivided(_refused(group, f"to move {_names([pid])}", error)) from error


def _try(trial: str, needed: str, wake: WakeUp | None) -> None:
    """Put a process into a group such as jobs get."""
    os.mkdir(trial, 0o755)
    with Runner(wake) as runner:
        handle = runner.start_call(
            lambda: _enter_trial(trial), name="trial of a job's control group", deadline_seconds=TRIAL_SECONDS
        )
        result = runner.wait(handle)
    problem = result.answer.decode(errors="replace") if result.ok else result.explain()
    if not problem and needed not in words_of(f"{trial}/cgroup.controllers"):
        problem = f"it has no controller of {needed}"
    if problem:
        raise Undivided(_TRIAL_FAILED.format(group=os.path.dirname(trial), problem=problem))
    os.rmdir(trial)


def _enter_trial(trial: str) -> bytes:
    """In a child: move there; what was refused."""
    try:
        write(f"{trial}/cgroup.procs", "0")
        if os.getpid() not in members(trial):
            return b"it stayed where it was"
    except OSError as error:
        return (error.strerror or "unknown error").encode()
    return b""


def _undo(workspace: Workspace) -> list[str]:
    """Put everything back; what could not be."""
    journal = Journal(workspace.journal)
    closed, leftovers = give_back(workspace, read_journal(journal.path).groups, Budget(UNDO_SECONDS))
    for number in closed:
        journal.close(number)
    return [f"left behind: {item['path']} ({item['cause']})" for item in leftovers]


def _family(root: int) -> set[int]:
    """The pilot, and what is above it: the batch job's script waits for the pilot, and may be in the same group."""
    return {*ancestors(root), *below([root])}


def _names(pids: list[int]) -> str:
    """A few of them, for a person."""
    stats = [(pid, read_stat(pid)) for pid in pids if pid]
    shown = [f"{stat.name if stat else '?'} {pid}" for pid, stat in stats[:NAMED]]
    if unseen := len(pids) - len(stats):
        shown.append(f"{unseen} that cannot be seen from here")
    return ", ".join(shown + (["..."] if len(stats) > NAMED else []))


def _refused(group: str, what: str, error: OSError) -> str:
    return _REFUSED.format(group=group, what=what, error=errno.errorcode.get(error.errno or 0, str(error)))
