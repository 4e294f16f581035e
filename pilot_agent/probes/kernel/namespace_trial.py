"""What containers are made of, really tried one by one: namespaces of each kind, mounts in them, and all of it nested.

The trial runs in a child of its own and answers with plain data, which is what a recording keeps; what it means is
judged elsewhere.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from pilot_agent.codec import to_json
from pilot_agent.model import Json
from pilot_agent.probes.kernel.namespaces import (
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    Steps,
    covered_directory,
    enter_user_namespace,
    give_up_root,
    in_fork,
    map_to_root,
    mount,
    mount_is_filtered,
    private_mounts,
    unshare,
    unshare_is_filtered,
)

TEST = "namespaces"

USER, MAPS, MOUNT, PRIVATE, TMPFS = "user namespace", "account maps", "mount namespace", "private mounts", "tmpfs mount"
IPC, UTS, NETWORK, PID = "IPC namespace", "UTS namespace", "network namespace", "PID namespace"
PROC, NESTED, NESTED_MOUNT = "fresh /proc", "nested user namespace", "nested mount"
NEEDED = (USER, MAPS, MOUNT, PRIVATE, TMPFS)
"""What every container needs; the rest only some."""
MOUNTS = (PRIVATE, TMPFS, PROC, NESTED_MOUNT)

_KINDS = ((IPC, CLONE_NEWIPC), (UTS, CLONE_NEWUTS), (NETWORK, CLONE_NEWNET), (PID, CLONE_NEWPID))


@dataclass(frozen=True, slots=True)
class NamespaceTrial:
    """How far a trial came. ``steps`` holds the errno name of each step's refusal, empty when it worked; a step that
    is missing was not tried. ``gave_up_root`` when it was tried as an ordinary account though the pilot is root;
    ``as_root`` when root could not be given up. ``filtered`` names the calls that a seccomp filter answered, and
    ``profile`` the AppArmor profile that the process had inside."""

    steps: Mapping[str, str] = field(default_factory=dict)
    gave_up_root: bool = False
    as_root: bool = False
    filtered: tuple[str, ...] = ()
    profile: str = ""

    @property
    def refused(self) -> str:
        """The first of the needed steps that was refused; empty when none was."""
        return next((name for name in NEEDED if self.steps.get(name)), "")

    def worked(self, name: str) -> bool:
        """True when the step was taken with success."""
        return self.steps.get(name) == ""


def try_namespaces() -> Json:
    """Make every kind of namespace, mount in them, and nest them; a ``NamespaceTrial`` as JSON."""
    gave_up = give_up_root()
    as_root = os.geteuid() == 0
    user, group = os.geteuid(), os.getegid()
    steps = Steps()
    profile, filtered = "", []
    if steps.take(USER, lambda: unshare(CLONE_NEWUSER)):
        profile = own_profile()
        if steps.take(MAPS, lambda: map_to_root(user, group)):
            _inside(steps)
    elif unshare_is_filtered():
        filtered.append("unshare")
    if any(steps.taken.get(name) for name in MOUNTS) and mount_is_filtered():
        filtered.append("mount")
    return to_json(NamespaceTrial(steps.taken, gave_up, as_root, tuple(filtered), profile))


def own_profile() -> str:
    """The AppArmor profile of this process with its mode; empty without AppArmor."""
    for path in ("/proc/self/attr/apparmor/current", "/proc/self/attr/current"):
        try:
            with open(path, encoding="utf-8", errors="replace") as stream:
                return stream.read(512).strip().strip("\0")
        except OSError:
            continue
    return ""


def _inside(steps: Steps) -> None:
    if steps.take(MOUNT, lambda: unshare(CLONE_NEWNS)) and steps.take(PRIVATE, private_mounts):
        steps.take(TMPFS, _mount_tmpfs)
    for name, flag in _KINDS:
        steps.take(name, lambda flag=flag: unshare(flag))  # type: ignore[misc]
    fresh_proc = steps.taken[PID] == "" and steps.taken.get(PRIVATE) == ""
    inner = in_fork(lambda: _first_process(fresh_proc=fresh_proc))
    steps.taken.update(inner if isinstance(inner, dict) else {NESTED: "EIO"})


def _first_process(*, fresh_proc: bool) -> Json:
    """What the first process of the PID namespace finds: its own /proc, and another container inside this one."""
    steps = Steps()
    if fresh_proc:
        steps.take(PROC, _mount_proc)
    if steps.take(NESTED, lambda: enter_user_namespace(CLONE_NEWNS)):
        steps.take(NESTED_MOUNT, _mount_tmpfs)
    return steps.taken


def _mount_tmpfs() -> None:
    mount("tmpfs", covered_directory(), "tmpfs", MS_NOSUID | MS_NODEV, "size=64k")


def _mount_proc() -> None:
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    # Only a /proc of this namespace knows this process as number 1.
    if os.readlink("/proc/self") != "1":
        raise OSError(errno.EBADE, "another namespace's /proc")
