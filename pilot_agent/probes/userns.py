"""User namespaces: not guessed from a sysctl but made, with what containers do in them; and who must change what."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, Finding
from pilot_agent.probes.answers import NOT_RECORDED
from pilot_agent.probes.namespaces import Trial, try_containers
from pilot_agent.probes.node import Node

MAXIMUM = "user.max_user_namespaces"
CLONE = "kernel.unprivileged_userns_clone"
APPARMOR = "kernel.apparmor_restrict_unprivileged_userns"

# What each refusal of unshare(2) means (user_namespaces(7), unshare(2)) and who must act.
_REFUSALS = {
    "EPERM": "not permitted: a seccomp filter or security module of a container around the pilot forbids it, or the "
    "pilot runs in a chroot; whoever starts that container must allow it",
    "EINVAL": "not supported by this kernel (CONFIG_USER_NS); the site must boot another one",
    "ENOSPC": f"the limit {MAXIMUM}, or 32 nested ones, is reached; the site must raise it",
    "EUSERS": f"the limit {MAXIMUM}, or 32 nested ones, is reached; the site must raise it",
    "ENOSYS": "unknown to this kernel or hidden by a seccomp filter; the site or the container around must allow it",
}


def read_sysctls(node: Node) -> dict[str, int]:
    """The switches of user namespaces that this kernel has; those missing on it are left out."""
    found = {name: node.read_integer("/proc/sys/" + name.replace(".", "/")) for name in (MAXIMUM, CLONE, APPARMOR)}
    return {name: value for name, value in found.items() if value is not None}


def forbidden_by(sysctls: Mapping[str, int]) -> str:
    """Why ordinary users cannot make a user namespace according to the switches, with the change; empty if they
    may."""
    if sysctls.get(MAXIMUM) == 0:
        return f"{MAXIMUM} is 0; the site must set it: sysctl -w {MAXIMUM}=15000"
    if sysctls.get(CLONE) == 0:
        return f"{CLONE} is 0; the site must set it: sysctl -w {CLONE}=1"
    return ""


def explain(trial: Trial, sysctls: Mapping[str, int]) -> str:
    """Why a trial was refused, and who must change what; empty when it was not."""
    if not trial.failed:
        return ""
    found = f"{trial.failed}: {trial.error}"
    switch = forbidden_by(sysctls)
    if switch:
        return f"{found}: {switch}"
    if sysctls.get(APPARMOR) and trial.failed != "child":
        change = f"sysctl -w {APPARMOR}=0, or an AppArmor profile with 'userns,' for the program"
        return f"{found}: AppArmor restricts them ({APPARMOR} is 1); the site must set it: {change}"
    if trial.failed == "user namespace":
        return f"{found}: {_REFUSALS.get(trial.error, 'refused by the kernel; the site must find out why')}"
    if trial.failed == "child":
        return f"the trial did not end: {trial.error}"
    return f"{found}: user namespaces exist but mounts in them are refused; a security module or seccomp filter does it"


def probe_userns(context: Context) -> Iterator[Finding]:
    """``userns.usable`` (namespaces and a mount in them were made), ``userns.pid_proc`` (a PID namespace with its own
    /proc too) and ``userns.sysctls``."""
    node = Node.of(context)
    sysctls = read_sysctls(node)
    yield Fact("userns.sysctls", sysctls, source="/proc/sys")
    if not node.live:
        yield from _recorded(sysctls)
        return
    trial = try_containers()
    yield from judge(trial, sysctls, privileged=os.geteuid() == 0 and in_initial_namespace(node))


def judge(trial: Trial, sysctls: Mapping[str, int], *, privileged: bool) -> Iterator[Fact]:
    """The facts of one trial. What root of the machine was allowed proves nothing for others: then the switches
    decide, as far as they can."""
    source = "unshare and mount as root" if privileged else "unshare and mount"
    refusal = explain(trial, sysctls)
    if privileged and not refusal:
        refusal = forbidden_by(sysctls)
        if not refusal and sysctls.get(APPARMOR):
            refusal = f"{APPARMOR} is 1; the site must set it to 0 or give the programs a profile with 'userns,'"
        refusal = f"root may, other accounts may not: {refusal}" if refusal else ""
    yield Fact("userns.usable", not refusal, source=source, detail=refusal)
    name = "userns.pid_proc"
    if trial.pid_proc_error is None:
        yield Fact.unknown(name, f"not tried: {refusal}", source=source)
    elif trial.pid_proc_error:
        why = (
            f"mounting /proc in a PID namespace: {trial.pid_proc_error}; parts of the /proc around the pilot are "
            "covered by its container, or a filter forbids it: whoever starts that container must unmask /proc"
        )
        yield Fact(name, False, source=source, detail=why)
    else:
        yield Fact(name, not refusal, source=source, detail=refusal)


def in_initial_namespace(node: Node) -> bool:
    """True when this process's accounts are the machine's own: all numbers are mapped to themselves."""
    return (node.read("/proc/self/uid_map") or "").split() == ["0", "0", "4294967295"]


def _recorded(sysctls: Mapping[str, int]) -> Iterator[Fact]:
    why = forbidden_by(sysctls)
    for name in ("userns.usable", "userns.pid_proc"):
        if why:
            yield Fact(name, False, source="/proc/sys", detail=why)
        else:
            yield Fact.unknown(name, NOT_RECORDED)
