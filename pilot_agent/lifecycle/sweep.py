"""What killed pilots of this account left on this node is undone by the next one; a live pilot is never touched.

A pilot is dead when nobody holds its lock (see ``lock``) and it lived on this machine. Each workspace is looked at in a
child with a deadline, since its file system may hang.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass

from pilot_agent.lifecycle import node_list
from pilot_agent.lifecycle.budget import Budget
from pilot_agent.lifecycle.lock import LOCK_FD_VARIABLE, take
from pilot_agent.lifecycle.owner import Owner
from pilot_agent.lifecycle.remains import Undone, end_processes, real_place, remove_unpacked, undo
from pilot_agent.lifecycle.shared_memory import Segments
from pilot_agent.lifecycle.traces import ancestors, below
from pilot_agent.light import dumps, loads
from pilot_agent.process import Runner, WakeUp
from pilot_agent.workspace import BEING_MADE, WORKSPACE_PREFIX, Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from typing import Any

    from pilot_agent.lifecycle.inherited import Teardowns

NAME = re.compile(rf"{WORKSPACE_PREFIX}[0-9a-f]{{12}}({re.escape(BEING_MADE)})?")
TOTAL_SECONDS = 60.0
SECONDS_FOR_ONE = 20.0
SETTLE_SECONDS = 0.2
"""A pilot changes from one kind of lock to the other: between them it holds none."""
PATIENCE_SECONDS = 2.0
"""What a child gets beyond the time that it is to keep by itself."""
RECORD_BYTES = 65536
MOST_TOLD, LONGEST_TOLD = 100, 500
"""Of what became of one workspace: so many things, each text of so many characters."""
LIVE, SPARED, SWEPT, GONE = "live", "spared", "swept", "gone"


@dataclass(frozen=True, slots=True)
class Swept:
    """What became of one workspace: ``live``, ``spared`` for the ``reason``, ``swept``, or ``gone`` already.

    ``processes`` are the names of those that were ended, ``teardowns`` what was run for its setups and how it ended,
    ``leftovers`` what could not be undone.
    """

    workspace: str
    state: str
    reason: str = ""
    processes: tuple[str, ...] = ()
    teardowns: tuple[str, ...] = ()
    leftovers: tuple[dict[str, Any], ...] = ()


class Spared(Exception):  # noqa: N818 - a refusal, with the reason as its text
    """The workspace is not to be touched."""


class Live(Exception):  # noqa: N818 - an answer
    """Its pilot lives."""


def sweep(own: str | None, teardowns: Teardowns | None = None, wake: WakeUp | None = None) -> list[Swept]:
    """Undo what dead pilots of this account left on this node: those of its list, and those beside ``own``, which is
    this pilot's workspace (None while there is none). What their setups did is undone by this pilot's ``teardowns``,
    and waits for a later sweep where those are None: not known yet. Raises ``Interrupted``."""
    # By its name a dead pilot's processes are known: one of another form could be that of any directory.
    listed = {root: owner for root, owner in node_list.entries().items() if _is_workspace(root)}
    roots = sorted({*listed, *(_beside(own) if own is not None else ())} - {own})
    if not roots:
        return []
    owners = {root: _owner(listed.get(root)) for root in roots}
    spared = _spared(owners.values())
    in_use = {owner.runtime for owner in owners.values() if owner is not None and owner.alive()}
    everyone = sorted((*roots, *([own] if own else ())))
    names = Counter(map(os.path.basename, everyone))
    budget = Budget(TOTAL_SECONDS)
    results = []
    for root in roots:
        owner = owners[root]
        if owner is not None and owner.judged_from_here() and owner.alive():
            results.append(Swept(root, LIVE))
        elif _holds_another(root, everyone):
            results.append(Swept(root, SPARED, "another pilot lives in it"))
        elif names[os.path.basename(root)] > 1:
            # A pilot's processes are known by it. Names are random: somebody made a second one of that name.
            results.append(Swept(root, SPARED, "another workspace has the same name"))
        elif budget.left() > 0:
            undoing = _Undoing(spared, in_use, teardowns, budget.at_most(SECONDS_FOR_ONE))
            results.append(_in_child(root, owner, undoing, wake))
    return results


def _holds_another(root: str, everyone: Sequence[str]) -> bool:
    """Whether one of these paths, which are sorted, is below ``root``."""
    first = bisect_left(everyone, f"{root}/")
    return first < len(everyone) and everyone[first].startswith(f"{root}/")


def _is_workspace(path: str) -> bool:
    return os.path.isabs(path) and os.path.normpath(path) == path and bool(NAME.fullmatch(os.path.basename(path)))


def _beside(own: str) -> list[str]:
    """This account's workspaces in the directory that this pilot's own is in. Where everybody may write there may be
    any number of others."""
    parent = os.path.dirname(own)
    try:
        with os.scandir(parent) as entries:
            return [entry.path for entry in entries if NAME.fullmatch(entry.name) and _is_ours(entry)]
    except OSError:
        return []


def _is_ours(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.stat(follow_symlinks=False).st_uid == os.geteuid()
    except OSError:
        return False


def _owner(data: Any) -> Owner | None:
    try:
        return Owner(data)
    except (KeyError, TypeError, ValueError):
        return None


def _spared(owners: Iterable[Owner | None]) -> frozenset[int]:
    """This process and those above it, and all that belongs to pilots that can be seen to live."""
    alive = [pid for owner in owners if owner is not None for pid in owner.alive()]
    return frozenset({*ancestors(os.getpid()), *below(alive)})


@dataclass(frozen=True, slots=True)
class _Undoing:
    """How a dead pilot is undone: which processes and interpreters are no part of it, this pilot's teardowns, how long
    it may take."""

    spared: Collection[int]
    in_use: Collection[str]
    teardowns: Teardowns | None
    seconds: float


def _in_child(root: str, owner: Owner | None, how: _Undoing, wake: WakeUp | None) -> Swept:
    with Runner(wake) as runner:
        handle = runner.start_call(
            lambda: dumps(_swept(root, owner, how)).encode(),
            name="sweep",
            deadline_seconds=how.seconds + PATIENCE_SECONDS,
        )
        result = runner.wait(handle)
    try:
        answer: Mapping[str, Any] = loads(result.answer)
        return Swept(
            root,
            answer["state"],
            answer["reason"],
            tuple(answer["processes"]),
            tuple(answer["teardowns"]),
            tuple(answer["leftovers"]),
        )
    except (ValueError, KeyError, TypeError):
        return Swept(root, SPARED, result.explain())


def _swept(root: str, owner: Owner | None, how: _Undoing) -> dict[str, Any]:
    """In the child: look at one workspace, and undo it if its pilot is dead."""
    undone = Undone()
    state, reason = SWEPT, ""
    budget, spared = Budget(how.seconds), {*how.spared, os.getpid()}
    workspace = Workspace(root)
    try:
        descriptor = _open_lock(root)
        if descriptor is None:
            undone.processes = _without_workspace(workspace, owner, spared, how.in_use, budget)
            state = SWEPT if undone.processes else GONE
        else:
            found = _take_over(descriptor, workspace)
            os.environ[LOCK_FD_VARIABLE] = str(descriptor)
            undone = undo(workspace, _runtime_of(found, how.in_use), spared, how.teardowns, budget)
    except Live:
        state = LIVE
    except Spared as refusal:
        state, reason = SPARED, str(refusal)
    told = {name: getattr(undone, name)[:MOST_TOLD] for name in ("processes", "teardowns")}
    return {"state": state, "reason": reason, **told, "leftovers": _briefly(undone.leftovers)}


def _briefly(leftovers: Collection[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """As much as the answer of a child may hold: a job may have written any number of names, of any length."""
    found = [
        {name: value[:LONGEST_TOLD] if isinstance(value, str) else value for name, value in one.items()}
        for one, _ in zip(leftovers, range(MOST_TOLD), strict=False)
    ]
    if len(leftovers) > MOST_TOLD:
        found.append({"kind": "more", "cause": f"{len(leftovers) - MOST_TOLD} more are left over"})
    return found


def _open_lock(root: str) -> int | None:
    """The lock file of a workspace that is this account's; None when there is no workspace. Follows no link.

    Raises ``Spared``."""
    flags = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_RDONLY
    opened: list[int] = []
    try:
        try:
            opened.append(os.open(root, flags))
        except FileNotFoundError:
            return None
        if os.fstat(opened[0]).st_uid != os.geteuid():
            raise Spared("it belongs to another account")
        opened.append(os.open("private", flags, dir_fd=opened[0]))
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open("lock", flags, dir_fd=opened[1])
    except FileNotFoundError:
        raise Spared("it does not say whose it is") from None
    except OSError as error:
        what = "it is a link or no directory" if error.errno in (errno.ELOOP, errno.ENOTDIR) else "it cannot be opened"
        raise Spared(f"{what} ({(error.strerror or '').lower()})") from None
    finally:
        for each in opened:
            os.close(each)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        os.close(descriptor)
        raise Spared("its lock is not a file of this account")
    return descriptor


def _take_over(descriptor: int, workspace: Workspace) -> Owner:
    """Hold the workspace of a dead pilot, as nobody else does. Raises ``Live`` or ``Spared``."""
    locked = _locked(descriptor)
    try:
        now = os.lstat(workspace.lock)
    except OSError:  # another sweep was faster
        raise Live from None
    if not os.path.samestat(now, os.fstat(descriptor)):
        raise Live
    try:
        owner = Owner(loads(os.pread(descriptor, RECORD_BYTES, 0)))
    except (OSError, KeyError, TypeError, ValueError, RecursionError):
        raise Spared("it does not say whose it is") from None
    _require_dead(owner, locked=locked and owner.locked)
    if not owner.judged_from_here():
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        time.sleep(SETTLE_SECONDS)
        _locked(descriptor)
    return owner


def _locked(descriptor: int) -> bool:
    """Take the lock; False where there are none. Raises ``Live`` or ``Spared``."""
    try:
        return take(descriptor, fcntl.LOCK_EX)
    except BlockingIOError:
        raise Live from None
    except OSError as error:
        raise Spared(f"its lock cannot be taken ({(error.strerror or '').lower()})") from None


def _require_dead(owner: Owner, *, locked: bool) -> None:
    if not owner.of_this_machine():
        raise Spared(f"it belongs to the machine {owner.host or 'without a name'}")
    if owner.judged_from_here() and owner.alive():
        raise Live
    if not locked and not owner.judged_from_here():
        raise Spared("its file system has no locks, and its processes cannot be seen from here")


def _runtime_of(owner: Owner, in_use: Collection[str]) -> str:
    """The interpreter that was unpacked for a dead pilot; empty when a live one uses it, whatever was written."""
    used = {os.path.realpath(path) for path in in_use if path}
    return "" if not owner.runtime or real_place(owner.runtime) in used else owner.runtime


def _without_workspace(
    workspace: Workspace, owner: Owner | None, spared: Collection[int], in_use: Collection[str], budget: Budget
) -> list[str]:
    """Somebody removed the workspace: processes and interpreter may be there still. Raises ``Live`` or ``Spared``."""
    if owner is None:
        raise Spared("it is gone, and did not say whose it was")
    _require_dead(owner, locked=False)
    ended, _ = end_processes(workspace, [], spared, Segments(), budget)
    if not remove_unpacked(_runtime_of(owner, in_use), budget):
        node_list.strike(workspace.root)
    return ended
