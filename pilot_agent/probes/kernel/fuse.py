"""FUSE: whether this account may mount with it and read, through a helper or inside a user namespace."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pilot_agent.codec import from_json_or_none
from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, Finding, Json
from pilot_agent.probes.answers import NOT_RECORDED, Answer
from pilot_agent.probes.kernel import fuse_trial
from pilot_agent.probes.kernel.fuse_helpers import DIRECTORIES, NAMES, Helper, best_helper, find_helpers
from pilot_agent.probes.kernel.fuse_mount import DEVICE
from pilot_agent.probes.kernel.fuse_refusals import (
    HELPER_PROFILE,
    FuseSetting,
    explain_device,
    explain_helper,
    explain_inside,
    helper_without_rights,
    open_to_all,
)
from pilot_agent.probes.kernel.fuse_trial import FuseTrial, remove_left, try_helper, try_inside
from pilot_agent.probes.kernel.namespaces import load
from pilot_agent.probes.kernel.refusals import Refusal, read_setting
from pilot_agent.probes.mount_flags import Flagged, flags_of, read_flags
from pilot_agent.probes.node import Node

NO_WORKSPACE = "not tried: there is no workspace to mount in"


def probe_fuse(context: Context) -> Iterator[Finding]:
    """``fuse.usable`` (a file was read one way or the other), ``fuse.device`` and ``fuse.mode``, ``fuse.helper`` (the
    best one) and ``fuse.helpers``, ``fuse.userns_mount``, ``fuse.helper_mount``, and ``fuse.refusal`` (a code; absent
    when neither way is refused)."""
    node = Node.of(context)
    mounts = read_flags(node)
    helpers = find_helpers(node, context.environment.get("PATH", ""), mounts)
    best = best_helper(helpers)
    around = read_around(node, mounts, context.workspace or "")
    yield from _helper_facts(node, helpers, best)
    yield _mode_fact(node, around)
    answers = _try(node, best, context.workspace)
    inside, outside = (_trial_of(answers.get(test)) for test in (fuse_trial.INSIDE, fuse_trial.OUTSIDE))
    if inside is None and outside is None:
        yield from judge_without_trial(node, around)
        return
    yield from judge(inside, outside, best, around, _reasons(answers))


def read_around(node: Node, mounts: list[Flagged], workspace: str) -> FuseSetting:
    """What decides about FUSE around this process."""
    listed = node.read("/proc/filesystems")
    return FuseSetting(
        setting=read_setting(node),
        device=node.status(DEVICE),
        nodev="nodev" in flags_of(mounts, DEVICE)[1],
        filesystems=None if listed is None else parse_filesystems(listed),
        helper_profile=node.read_line("/sys/module/apparmor/parameters/enabled") == "Y" and node.exists(HELPER_PROFILE),
        workspace=workspace,
    )


def parse_filesystems(text: str) -> frozenset[str]:
    """The file systems that ``/proc/filesystems`` lists."""
    return frozenset(line.split()[-1] for line in text.splitlines() if line.split())


def judge(
    inside: FuseTrial | None,
    outside: FuseTrial | None,
    helper: Helper | None,
    around: FuseSetting,
    reasons: tuple[str, str] = ("", ""),
) -> Iterator[Fact]:
    """The facts of both trials; None is a trial that told nothing, and ``reasons`` say why, inside first."""
    refused_inside = explain_inside(inside, around) if inside is not None else None
    refused_outside = explain_helper(helper, outside, around) if outside is not None else None
    if outside is None and (without := helper_without_rights(helper, around.setting)) is not None:
        refused_outside, reasons = without, (reasons[0], "")
    yield _device_fact(inside, around)
    yield _mount_fact("fuse.userns_mount", "mount in a user namespace", inside, refused_inside, reasons[0])
    source = helper.path if helper is not None else "search path"
    yield _mount_fact("fuse.helper_mount", source, outside, refused_outside, reasons[1])
    works = [
        way for way, trial in (("user namespace", inside), ("helper", outside)) if trial is not None and trial.worked
    ]
    refusals = [refusal for refusal in (refused_outside, refused_inside) if refusal is not None]
    yield _usable(works, refusals, reasons)
    yield _refusal(works, refusals)


def judge_without_trial(node: Node, around: FuseSetting) -> Iterator[Fact]:
    """The facts of a node where nothing could be tried: what is missing forbids, but nothing can be promised."""
    for name in ("fuse.device", "fuse.userns_mount", "fuse.helper_mount"):
        yield Fact.unknown(name, NOT_RECORDED)
    if around.filesystems is not None and "fuse" not in around.filesystems:
        refusal = explain_device("ENOENT" if around.device is None else "ENODEV", around)
        detail = f"the kernel does not list fuse in /proc/filesystems: {refusal.text}"
        yield Fact("fuse.usable", False, source="/proc/filesystems", detail=detail)
        yield Fact("fuse.refusal", refusal.code, source="/proc/filesystems", detail=detail)
        return
    for name in ("fuse.usable", "fuse.refusal"):
        yield Fact.unknown(name, NOT_RECORDED)


def _try(node: Node, helper: Helper | None, workspace: str | None) -> dict[str, Answer]:
    """The answers of both trials at once; of the helper's only where there is one that may be tried."""
    trials: dict[str, Callable[[], Json]] = {fuse_trial.INSIDE: try_inside}
    if node.live:
        load()
    path, place = (helper.path, workspace) if helper is not None and workspace else ("", "")
    if (path and place) or not node.live:
        trials[fuse_trial.OUTSIDE] = lambda: try_helper(path, place)
    answers = node.ask_all(trials)
    outside = answers.get(fuse_trial.OUTSIDE)
    if node.live and outside is not None and outside.problem and path and place:
        node.ask(fuse_trial.REMOVAL, lambda: remove_left(path, place))
    return answers


def _trial_of(answer: Answer | None) -> FuseTrial | None:
    return None if answer is None or answer.problem else from_json_or_none(FuseTrial, answer.value)


def _reasons(answers: dict[str, Answer]) -> tuple[str, str]:
    inside, outside = answers.get(fuse_trial.INSIDE), answers.get(fuse_trial.OUTSIDE)
    damaged = "the recorded answer is damaged"
    return (
        (inside.problem or damaged) if inside is not None else NO_WORKSPACE,
        (outside.problem or damaged) if outside is not None else NO_WORKSPACE,
    )


def _helper_facts(node: Node, helpers: list[Helper], best: Helper | None) -> Iterator[Fact]:
    if best is None:
        paths = [f"{DIRECTORIES[0]}/{name}" for name in NAMES]
        for name in ("fuse.helper", "fuse.helpers"):
            yield node.absence(name, "neither fusermount3 nor fusermount was found", *paths)
        return
    detail = "setuid" if best.setuid else "file capabilities" if best.capabilities else "not setuid"
    detail += ", on a mount with nosuid" if best.nosuid else ""
    yield Fact("fuse.helper", best.path, source="search path", detail=detail)
    yield Fact("fuse.helpers", [helper.as_json() for helper in helpers], source="search path")


def _mode_fact(node: Node, around: FuseSetting) -> Fact:
    device = around.device
    if device is None:
        return node.absence("fuse.mode", f"no {DEVICE}", DEVICE)
    return Fact("fuse.mode", f"{device.mode:04o}", source=DEVICE, detail=f"owner {device.uid}:{device.gid}")


def _device_fact(inside: FuseTrial | None, around: FuseSetting) -> Fact:
    name = "fuse.device"
    error = None if inside is None else inside.steps.get(fuse_trial.OPEN)
    if error is not None:
        detail = explain_device(error, around).text if error else ""
        return Fact(name, not error, source=DEVICE, detail=detail)
    if around.device is None:
        return Fact.unknown(name, "not tried", source=DEVICE)
    usable = open_to_all(around.device)
    return Fact(
        name, usable, source=f"mode of {DEVICE}", detail="" if usable else explain_device("EACCES", around).text
    )


def _mount_fact(name: str, source: str, trial: FuseTrial | None, refusal: Refusal | None, reason: str) -> Fact:
    if refusal is not None:
        return Fact(name, False, source=source, detail=refusal.text)
    if trial is None:
        return Fact.unknown(name, reason, source=source)
    left = f"{trial.left} could not be unmounted" if trial.left else ""
    source += " as nobody" if trial.gave_up_root else " as root" if trial.as_root else ""
    return Fact(name, trial.worked, source=source, detail=left)


def _usable(works: list[str], refusals: list[Refusal], reasons: tuple[str, str]) -> Fact:
    name = "fuse.usable"
    why = "; ".join(dict.fromkeys(refusal.text for refusal in refusals))
    if len(works) == 1:
        other = f"only through the {works[0]}: {why}" if why else f"the {works[0]} works"
        return Fact(name, True, source=f"read through the {works[0]}", detail=other)
    if works:
        return Fact(name, True, source="read in a user namespace and through the helper")
    # One way refused says nothing of the other one.
    if len(refusals) == 2 or any(refusal.code.startswith("device.") for refusal in refusals):
        return Fact(name, False, source="both ways tried", detail=why)
    return Fact.unknown(name, "; ".join(part for part in (why, *reasons) if part))


def _refusal(works: list[str], refusals: list[Refusal]) -> Fact:
    name = "fuse.refusal"
    if not refusals:
        return Fact.absent(name, "nothing was refused")
    text = "; ".join(dict.fromkeys(refusal.text for refusal in refusals))
    device = next((refusal for refusal in refusals if refusal.code.startswith("device.")), refusals[0])
    return Fact(name, device.code, detail=f"the {works[0]} works all the same: {text}" if works else text)
