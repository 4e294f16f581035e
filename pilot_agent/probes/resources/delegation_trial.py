"""Whether this process may divide its control group, really tried: a group is made below its own, the process of the
trial moves there, and controllers are enabled for groups below that.

The trial runs in a child, so the processes of the pilot stay where they are; what it made is removed when it is gone.
It answers with plain data, which is what a recording keeps; what it means is judged in ``delegation``.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pilot_agent.codec import CodecError, from_json, to_json
from pilot_agent.model import Json
from pilot_agent.probes.kernel.namespaces import Steps, write_kernel_file
from pilot_agent.probes.resources.cgroup import OwnGroup

TEST = "control group delegation"
NAME = "pilot-agent-trial-"
"""How the names of groups that a trial makes begin."""
REMOVAL = "control group trial removed"

MAKE, MOVE, ENABLE = "make", "move", "enable"
_LEAF = "leaf"
# A group keeps its dead processes for a moment after they were waited for.
_REMOVAL_TRIES = 20
_REMOVAL_PAUSE_SECONDS = 0.01
# These also work in groups with threads: enabling one in a group with processes would make it a threaded one.
_THREADED = frozenset({"cpu", "cpuset", "perf_event", "pids"})


@dataclass(frozen=True, slots=True)
class GroupTrial:
    """What was tried below one group. ``steps`` holds the errno name of each refusal, empty when it worked: ``make``
    a group, ``move`` there, ``enable`` controllers in the own group, and each controller's name for enabling it in
    the group that was made. A step that is missing was not tried."""

    version: int
    path: str
    controllers: tuple[str, ...]
    steps: Mapping[str, str] = field(default_factory=dict)

    @property
    def delegated(self) -> bool:
        """True when a group was made and entered."""
        return self.steps.get(MAKE) == "" and self.steps.get(MOVE) == ""


def try_delegation(groups: Sequence[OwnGroup], name: str) -> Json:
    """Try all groups that can be seen, by groups of that name; a list of ``GroupTrial`` as JSON.

    This process ends up in the groups that were made: ``remove_trial`` works after its end.
    """
    trials = []
    for group in groups:
        if group.directory is None:
            continue
        steps = Steps()
        if _make(group, group.directory, name, steps):
            _enter(group, f"{group.directory}/{name}", steps)
            if group.version == 2 and steps.taken[MOVE] == "":
                steps.take(ENABLE, lambda directory=group.directory: _enable_in_own(directory))  # type: ignore[misc]
        trials.append(GroupTrial(group.version, group.path, group.controllers, steps.taken))
    return [to_json(trial) for trial in trials]


def read_trials(answer: Json) -> tuple[GroupTrial, ...] | None:
    """The trials of a fresh or recorded answer; None for a damaged one."""
    try:
        return tuple(from_json(GroupTrial, each) for each in answer) if isinstance(answer, list) else None
    except CodecError:
        return None


def remove_trial(groups: Sequence[OwnGroup], name: str) -> Json:
    """Remove what a trial of that name made; the directories that could not be removed."""
    left = []
    for group in groups:
        for directory in (f"{group.directory}/{name}/{_LEAF}", f"{group.directory}/{name}"):
            if group.directory is not None and not _removed(directory):
                left.append(directory)
    return left


def _removed(directory: str) -> bool:
    for _ in range(_REMOVAL_TRIES):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            return True
        except OSError:
            time.sleep(_REMOVAL_PAUSE_SECONDS)
        else:
            return True
    return not os.path.exists(directory)


def _make(group: OwnGroup, directory: str, name: str, steps: Steps) -> bool:
    if not steps.take(MAKE, lambda: os.mkdir(f"{directory}/{name}", 0o755)):
        return False
    if group.version == 1 and "cpuset" in group.controllers:
        # A new set is empty in version 1, and nothing can enter an empty one; where it is not, nothing is lost.
        for file in ("cpuset.cpus", "cpuset.mems"):
            with contextlib.suppress(OSError):
                write_kernel_file(f"{directory}/{name}/{file}", _read(f"{directory}/{file}"))
    return True


def _enter(group: OwnGroup, directory: str, steps: Steps) -> None:
    """Move this process to a new group, in version 2 to one below it, so that controllers can be enabled between."""
    if group.version == 1:
        steps.take(MOVE, lambda: write_kernel_file(f"{directory}/cgroup.procs", "0"))
        return
    if steps.take(MOVE, lambda: _make_and_enter(f"{directory}/{_LEAF}")):
        for name in _read(f"{directory}/cgroup.controllers").split():
            steps.take(name, lambda name=name: write_kernel_file(f"{directory}/cgroup.subtree_control", f"+{name}"))  # type: ignore[misc]


def _make_and_enter(leaf: str) -> None:
    os.mkdir(leaf, 0o755)
    write_kernel_file(f"{leaf}/cgroup.procs", "0")


def _enable_in_own(directory: str) -> None:
    """Ask for the controllers that the own group does not hand down yet. Raises ``OSError``: EBUSY means that they
    could be had if only the group were empty (cgroup-v2.rst, "No Internal Process Constraint").

    All in one write, of which the kernel does everything or nothing. Where no controller asks for an empty group, and
    in the root group of the machine, nothing is changed: the file is only opened.
    """
    control = f"{directory}/cgroup.subtree_control"
    missing = set(_read(f"{directory}/cgroup.controllers").split()) - set(_read(control).split())
    if not missing - _THREADED or not os.path.exists(f"{directory}/cgroup.type"):
        os.close(os.open(control, os.O_WRONLY | os.O_CLOEXEC))
        return
    write_kernel_file(control, " ".join(f"+{name}" for name in sorted(missing)))
    write_kernel_file(control, " ".join(f"-{name}" for name in sorted(missing)))


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read(65536)
