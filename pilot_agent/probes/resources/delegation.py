"""What a trial of dividing the own control group means, and who must change what where it was refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from pilot_agent.model import Fact
from pilot_agent.probes.answers import Answer
from pilot_agent.probes.resources.cgroup import OwnGroup
from pilot_agent.probes.resources.delegation_trial import ENABLE, MAKE, MOVE, GroupTrial, read_trials

DELEGATED = "cgroup.delegated"
CONTROLLERS = "cgroup.delegated_controllers"
_SOURCE = "groups made, entered and removed"

_READ_ONLY = (
    "control groups are mounted read-only by a container around the pilot; whoever starts it must mount them writable "
    "(Kubernetes with containerd from 2.1: cgroup_writable = true for the runtime; Podman: "
    "--security-opt unmask=/sys/fs/cgroup)"
)
_VERSION_1 = (
    "groups of version 1 stay root's, as it is not safe to give them away; the site must boot the node with version 2 "
    "(EL8 or newer, kernel argument systemd.unified_cgroup_hierarchy=1)"
)
_HIDDEN = "most likely a container hides it; whoever starts that must mount /sys/fs/cgroup in it, writable"
_HTCONDOR = (
    "the group is HTCondor's, which gives jobs theirs from version 24.8 on and with control groups version 2; the site "
    "must run that on the node"
)
_SESSION = (
    "the group is that of a log-in session, which stays root's; start the pilot by: "
    "systemd-run --user --scope --property=Delegate=yes"
)
# Paths of the groups that batch systems and systemd make, and how each gives a group to those who run in it.
_MANAGERS = (
    (r"/slurmstepd\.scope|/slurm(/|_|$)", "the group is Slurm's, which has no option to give a job its group"),
    (r"/htcondor(/|$)|/condor\.service|/condor(/|$)|/condor_", _HTCONDOR),
    (r"/pbs_jobs\.service|/pbspro", "the group is that of PBS, which has no option to give a job its group"),
    (r"/lsf(/|$)", "the group is LSF's, which has no option to give a job its group"),
    (r"/session-[^/]*\.scope", _SESSION),
    (
        r"/(?P<unit>[^/]+\.service)",
        "the site must put Delegate=yes into the [Service] section of {unit} (systemctl edit {unit})",
    ),
    (r"/(?P<unit>[^/]+\.scope)", "whoever starts {unit} must make it with the property Delegate=yes"),
)
_OWNER = (
    "whoever starts the pilot must give it the group: the directory and in it cgroup.procs and cgroup.subtree_control "
    "(with systemd: Delegate=yes)"
)


def judge(groups: Sequence[OwnGroup], answer: Answer, left: Sequence[str] = ()) -> Iterator[Fact]:
    """``cgroup.delegated`` and ``cgroup.delegated_controllers`` from the answer of the trial; ``left`` is what could
    not be removed."""
    if not any(group.directory for group in groups):
        paths = ", ".join(dict.fromkeys(group.path for group in groups))
        reason = f"the own group ({paths}) is not mounted where the pilot can see it: {_HIDDEN}"
        yield Fact(DELEGATED, False, source="/proc/self/mountinfo", detail=reason)
        yield Fact(CONTROLLERS, [], source="/proc/self/mountinfo", detail=reason)
        return
    trials = read_trials(answer.value)
    remains = [f"left behind: {', '.join(left)}"] if left else []
    if trials is None:
        problem = answer.problem or "its answer cannot be read"
        reason = "; ".join([f"the trial did not end: {problem}" if answer.hung else problem, *remains])
        yield from (Fact.unknown(name, reason, source=_SOURCE) for name in (DELEGATED, CONTROLLERS))
        return
    delegated = any(trial.delegated for trial in trials)
    yield Fact(DELEGATED, delegated, source=_SOURCE, detail="; ".join([*explain(trials), *remains]))
    controllers = sorted({name for trial in trials for name in delegated_controllers(trial)})
    mixed = any(trial.version == 1 for trial in trials)
    lack = [_lack(trial) for trial in trials if trial.version == 2 and not (mixed and not trial.controllers)]
    yield Fact(CONTROLLERS, list(controllers), source=_SOURCE, detail="; ".join(filter(None, lack)))


def delegated_controllers(trial: GroupTrial) -> tuple[str, ...]:
    """The controllers that groups below the own one can have, if its processes move out of it first."""
    if not trial.delegated:
        return ()
    if trial.version == 1 or trial.steps.get(ENABLE) in ("", "EBUSY"):
        return trial.controllers
    return tuple(name for name in trial.controllers if trial.steps.get(name) == "")


def explain(trials: Iterable[GroupTrial]) -> list[str]:
    """Why groups could not be made or entered, and who must act; what was refused for the same reason is told
    together."""
    refused: dict[str, dict[str, list[str]]] = {}
    for trial in trials:
        if not trial.delegated:
            names = trial.controllers if trial.version == 1 else ("version 2",)
            refused.setdefault(_refusal(trial), {}).setdefault(trial.path, []).extend(names)
    return [
        ", ".join(f"{', '.join(names)} in {path}" for path, names in places.items()) + f": {reason}"
        for reason, places in refused.items()
    ]


def _refusal(trial: GroupTrial) -> str:
    step = next((name for name in (MAKE, MOVE) if trial.steps.get(name)), None)
    if step is None:
        return "not tried"
    error = trial.steps[step]
    did = "no group can be made" if step == MAKE else "a group can be made but not entered"
    return f"{did} ({error}): {_cause(error, trial.version, trial.path)}"


def _cause(error: str, version: int, path: str) -> str:
    match error:
        case "EROFS":
            return _READ_ONLY
        case "EACCES" | "EPERM":
            return _VERSION_1 if version == 1 else _manager(path)
        case "EAGAIN" | "ENOSPC":
            return (
                "a limit of groups is reached; whoever owns the groups above must raise cgroup.max.descendants or "
                "cgroup.max.depth"
            )
        case "EOPNOTSUPP":
            return "the own group is a threaded one; whoever made it so must start the pilot in a group of its own"
        case "ENOENT":
            return "the kernel sees it outside of the pilot's control group namespace; whoever starts it must act"
        case _:
            return _OWNER


def _manager(path: str) -> str:
    """Who can give away the group at ``path``: the innermost unit, batch systems before systemd."""
    for pattern, advice in _MANAGERS:
        found = list(re.finditer(pattern, path))
        if found:
            return advice.format(**found[-1].groupdict())
    return _OWNER


def _lack(trial: GroupTrial) -> str:
    """What stands in the way of controllers in version 2 although groups could be made."""
    if trial.version == 1 or not trial.delegated:
        return ""
    if not trial.controllers:
        return f"no controller is enabled for {trial.path}; whoever made the group must (cgroup.subtree_control above)"
    match trial.steps.get(ENABLE):
        case "EBUSY":
            return (
                "once the pilot's own processes have moved to a group below: a group with processes cannot hand "
                "controllers down"
            )
        case "" | None:
            return ""
        case error:
            return f"controllers cannot be enabled for groups below {trial.path} ({error}): {_manager(trial.path)}"


def version_of(groups: Iterable[OwnGroup], *, unified: bool) -> str:
    """``v1``, ``v2``, ``hybrid`` (version 1 with version 2 mounted beside it) or ``none``."""
    versions = {group.version for group in groups}
    if 1 not in versions:
        return "v2" if 2 in versions else "none"
    return "hybrid" if 2 in versions and unified else "v1"
