"""User namespaces: not guessed from a sysctl but made, with what containers do in them; and who must change what."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from pilot_agent.codec import from_json_or_none
from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, Finding, Json
from pilot_agent.probes.answers import Answer
from pilot_agent.probes.kernel import namespace_trial
from pilot_agent.probes.kernel.namespace_trial import NamespaceTrial, try_namespaces
from pilot_agent.probes.kernel.namespaces import WHOLE_MACHINE
from pilot_agent.probes.kernel.refusals import (
    Refusal,
    Setting,
    explain_mount,
    explain_namespace,
    explain_user_namespace,
    read_setting,
    restricted_by_apparmor,
    switched_off,
)
from pilot_agent.probes.kernel.subids import find_subids
from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import parse_integer

# What the facts call the kinds, the step that shows each, and its name in sysctls.
_KINDS = (
    ("ipc", namespace_trial.IPC, "ipc"),
    ("uts", namespace_trial.UTS, "uts"),
    ("net", namespace_trial.NETWORK, "net"),
    ("pid", namespace_trial.PID, "pid"),
)
_APPTAINERS = ("apptainer", "singularity")


def probe_userns(context: Context) -> Iterator[Finding]:
    """``userns.usable`` (a user and a mount namespace and a mount in them were made), ``userns.pid_proc`` (a PID
    namespace with its own /proc too), ``userns.namespaces`` (kind -> whether it could be made), ``userns.refusal`` (a
    code; absent when nothing is refused), ``userns.sysctls``, ``userns.maps`` and ``userns.subids``."""
    node = Node.of(context)
    setting = read_setting(node)
    yield Fact("userns.sysctls", dict(setting.sysctls), source="/proc/sys")
    yield find_maps(node)
    account = node.ask("account", lambda: [os.geteuid(), os.getegid()], here=True).value
    uid = account[0] if isinstance(account, list) and account and isinstance(account[0], int) else None
    yield find_subids(node, uid, context.environment.get("USER") or context.environment.get("LOGNAME") or "")
    answer = node.ask(namespace_trial.TEST, try_namespaces)
    trial = None if answer.problem else from_json_or_none(NamespaceTrial, answer.value)
    if trial is None:
        yield from judge_without_trial(setting, answer)
        return
    yield from judge(trial, setting, another_way(node, setting) if trial.refused else "")


def judge(trial: NamespaceTrial, setting: Setting, other_way: str = "") -> Iterator[Fact]:
    """The facts of one trial; ``other_way`` is what the node has instead of user namespaces. Where root could not be
    given up, what it was allowed proves nothing for others: then the switches decide, as far as they can."""
    source = "unshare and mount" + (" as nobody" if trial.gave_up_root else " as root" if trial.as_root else "")
    refusal = explain(trial, setting)
    if trial.as_root and refusal is None and setting.initial is not False:
        refusal = switched_off(setting) or restricted_by_apparmor(setting)
        if refusal is not None:
            refusal = Refusal(refusal.code, f"root may, other accounts may not: {refusal.text}")
    why = refusal.text + other_way if refusal else ""
    yield Fact("userns.usable", refusal is None, source=source, detail=why)
    if refusal is not None:
        yield Fact("userns.refusal", refusal.code, source=source, detail=why)
    else:
        yield Fact.absent("userns.refusal", "nothing was refused that containers need", source=source)
    yield _namespaces(trial, setting, refusal, source)
    yield _pid_proc(trial, setting, refusal, source)


def explain(trial: NamespaceTrial, setting: Setting) -> Refusal | None:
    """Why a step that every container needs was refused; None when none was."""
    step = trial.refused
    if not step:
        return None
    error = trial.steps[step]
    if step in (namespace_trial.USER, namespace_trial.MAPS):
        filtered = "unshare" in trial.filtered
        refusal = explain_user_namespace(error, setting, filtered=filtered, inside=trial.profile)
    elif step == namespace_trial.MOUNT:
        refusal = explain_namespace("mnt", error, setting)
    else:
        refusal = explain_mount(error, setting, filtered="mount" in trial.filtered, inside=trial.profile)
    return Refusal(refusal.code, f"{step}: {error}: {refusal.text}")


def judge_without_trial(setting: Setting, answer: Answer) -> Iterator[Fact]:
    """The facts of a node where nothing could be tried: the switches may forbid, but they cannot allow."""
    off = switched_off(setting)
    why = answer.problem or "the recorded answer is damaged"
    for name in ("userns.usable", "userns.pid_proc"):
        if off is not None:
            yield Fact(name, False, source="/proc/sys", detail=off.text)
        else:
            yield Fact.unknown(name, why)
    if off is not None:
        yield Fact("userns.refusal", off.code, source="/proc/sys", detail=off.text)
    else:
        yield Fact.unknown("userns.refusal", why)
    yield Fact.unknown("userns.namespaces", why)


def find_maps(node: Node) -> Fact:
    """``userns.maps``: ``{"inside", "uid_map", "gid_map"}``, each map a list of ``[inside, outside, count]``."""
    texts = [node.read(f"/proc/self/{name}") for name in ("uid_map", "gid_map")]
    if texts[0] is None:
        return Fact.unknown("userns.maps", "/proc/self/uid_map could not be read")
    inside = texts[0].split() != WHOLE_MACHINE
    value: Json = {"inside": inside, "uid_map": parse_map(texts[0]), "gid_map": parse_map(texts[1] or "")}
    detail = "the pilot is inside a user namespace already" if inside else ""
    return Fact("userns.maps", value, source="/proc/self/uid_map", detail=detail)


def parse_map(text: str) -> list[list[int]]:
    """The ranges of a uid_map (user_namespaces(7)); lines of another form are left out."""
    ranges = []
    for line in text.splitlines():
        numbers = [parse_integer(word) for word in line.split()]
        if len(numbers) == 3 and None not in numbers:
            ranges.append([number for number in numbers if number is not None])
    return ranges


def another_way(node: Node, setting: Setting) -> str:
    """A setuid Apptainer that its configuration allows, in words that follow a refusal; empty without one."""
    if setting.no_new_privileges or setting.initial is False:
        return ""
    for name in _APPTAINERS:
        starter = f"/usr/libexec/{name}/bin/starter-suid"
        status = node.status(starter)
        if status is None or not status.setuid_root:
            continue
        configuration = node.read(f"/etc/{name}/{name}.conf") or ""
        if re.search(r"(?mi)^\s*allow\s+setuid\s*=\s*no\s*$", configuration) is None:
            return f" (the setuid {name} of the node, {starter}, runs containers without them)"
    return ""


def _namespaces(trial: NamespaceTrial, setting: Setting, refusal: Refusal | None, source: str) -> Fact:
    usable = refusal is None
    made = {"user": usable, "mount": usable}
    reasons = [] if refusal is None else [_short(trial)]
    for kind, step, sysctl in _KINDS:
        made[kind] = usable and trial.worked(step)
        if usable and trial.steps.get(step):
            reason = explain_namespace(sysctl, trial.steps[step], setting).text
            reasons.append(f"{step}: {trial.steps[step]}: {reason}")
    nested, mounted = namespace_trial.NESTED, namespace_trial.NESTED_MOUNT
    made["nested"] = usable and trial.worked(nested) and trial.worked(mounted)
    if usable and trial.steps.get(nested):
        error = trial.steps[nested]
        reasons.append(f"{nested}: {error}: {_nested(error, setting)}")
    elif usable and trial.steps.get(mounted):
        error = trial.steps[mounted]
        reason = explain_mount(error, setting, filtered="mount" in trial.filtered, inside=trial.profile).text
        reasons.append(f"{mounted}: {error}: {reason}")
    return Fact("userns.namespaces", made, source=source, detail="; ".join(reasons))


def _short(trial: NamespaceTrial) -> str:
    step = trial.refused
    return f"{step}: {trial.steps[step]}; see userns.usable" if step else "see userns.usable"


def _nested(error: str, setting: Setting) -> str:
    if error in ("ENOSPC", "EUSERS"):
        return "32 namespaces are nested already, or the limit of user namespaces is reached by this one"
    return explain_user_namespace(error, setting).text


def _pid_proc(trial: NamespaceTrial, setting: Setting, refusal: Refusal | None, source: str) -> Fact:
    name, step = "userns.pid_proc", namespace_trial.PROC
    if refusal is not None and step not in trial.steps:
        return Fact.unknown(name, f"not tried: {_short(trial)}", source=source)
    error = trial.steps.get(step)
    if error is None:
        refused = trial.steps.get(namespace_trial.PID, "")
        why = explain_namespace("pid", refused, setting).text if refused else "the trial did not come that far"
        return Fact(name, False, source=source, detail=f"{namespace_trial.PID}: {refused}: {why}")
    if error:
        why = (
            f"mounting /proc in a PID namespace: {error}; parts of the /proc around the pilot are covered by its "
            "container, or a filter forbids it: whoever starts that container must unmask /proc, with "
            "--security-opt systempaths=unconfined (Docker), unmask=ALL (Podman), procMount: Unmasked (Kubernetes)"
        )
        return Fact(name, False, source=source, detail=why)
    return Fact(name, refusal is None, source=source, detail=refusal.text if refusal else "")
