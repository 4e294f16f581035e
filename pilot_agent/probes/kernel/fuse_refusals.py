"""Why FUSE is refused: by its device, by the helper, or inside user namespaces; and the exact change.

Pure judgements over what was read and tried. Sources: fuse(4), fusermount3(1), mount.fuse3(8), the kernel's
``Documentation/filesystems/fuse.rst``, and the AppArmor profile of fusermount3 in Ubuntu 24.10 and later.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from pilot_agent.probes.answers import FileStatus
from pilot_agent.probes.kernel import fuse_trial
from pilot_agent.probes.kernel.fuse_helpers import Helper
from pilot_agent.probes.kernel.fuse_kernels import mounts_for_all
from pilot_agent.probes.kernel.fuse_mount import DEVICE
from pilot_agent.probes.kernel.fuse_trial import FuseTrial
from pilot_agent.probes.kernel.namespace_trial import MAPS, MOUNT, USER
from pilot_agent.probes.kernel.refusals import (
    Refusal,
    Setting,
    explain_mount,
    explain_namespace,
    explain_user_namespace,
)

HELPER_PROFILE = "/etc/apparmor.d/fusermount3"
_RULE = '/etc/udev/rules.d/99-fuse.rules with KERNEL=="fuse", MODE="0666"'
_MODULE = "modprobe fuse, and keep it with the line 'fuse' in /etc/modules-load.d/fuse.conf"
_CONTAINER = "whoever starts the container around the pilot"
_PACKAGE = "apt install fuse3 (Debian, Ubuntu) or dnf install fuse3 (EL8 on; EL7: yum install fuse)"


@dataclass(frozen=True, slots=True)
class FuseSetting:
    """What around the pilot decides about FUSE beside ``setting``: the device's status, whether it lies on a mount
    without devices, what the kernel lists (None: not known), and whether the helper has an AppArmor profile."""

    setting: Setting = field(default_factory=Setting)
    device: FileStatus | None = None
    nodev: bool = False
    filesystems: Collection[str] | None = None
    helper_profile: bool = False
    workspace: str = ""


def explain_device(error: str, around: FuseSetting) -> Refusal:
    """Why /dev/fuse cannot be opened for reading and writing."""
    driver = around.filesystems is None or "fuse" in around.filesystems
    if error == "ENOENT":
        if not driver:
            return Refusal(
                "device.module", f"{DEVICE} is missing and the kernel lists no fuse; the site must: {_MODULE}"
            )
        text = (
            f"{DEVICE} is missing; the site must load the fuse module ({_MODULE}), or {_CONTAINER} must pass the "
            "device: --device /dev/fuse"
        )
        return Refusal("device.missing", text)
    if error in ("ENODEV", "ENXIO"):
        return Refusal("device.module", f"{DEVICE} has no driver; the site must: {_MODULE}")
    if error == "EACCES" and around.nodev:
        text = (
            f"{DEVICE} lies on a mount with the option nodev; {_CONTAINER} must pass it as a device: --device /dev/fuse"
        )
        return Refusal("device.nodev", text)
    if error == "EACCES":
        text = (
            f"{DEVICE} cannot be opened by an ordinary account ({_mode(around.device)}); the site must set its mode to "
            f"0666: chmod 0666 {DEVICE}, and keep it with {_RULE}"
        )
        return Refusal("device.mode", text)
    if error == "EPERM":
        text = (
            f"the device group of the container or job forbids {DEVICE}; {_CONTAINER} must pass it: --device "
            "/dev/fuse, or the batch system must list it among the allowed devices (c 10:229 rw)"
        )
        return Refusal("device.cgroup", text)
    return Refusal("device.refused", f"{DEVICE} cannot be opened: {error}; the site must find out why")


def open_to_all(device: FileStatus) -> bool:
    """True when the mode of the device lets every account read and write."""
    return device.mode & 0o006 == 0o006


def explain_inside(trial: FuseTrial, around: FuseSetting) -> Refusal | None:
    """Why FUSE does not work inside a user namespace; None when it does."""
    step = trial.refused
    if not step:
        return None
    error, setting = trial.steps[step], around.setting
    if step == fuse_trial.OPEN:
        return explain_device(error, around)
    if step in (USER, MAPS):
        filtered = "unshare" in trial.filtered
        found = explain_user_namespace(error, setting, filtered=filtered, inside=trial.profile)
        return Refusal(f"userns.{found.code}", f"{step}: {error}: {found.text}")
    if step == MOUNT:
        found = explain_namespace("mnt", error, setting)
    elif step == fuse_trial.READ:
        found = Refusal("read", "mounted, but the file could not be read through it; the site must find out why")
    elif error == "ENODEV":
        found = Refusal("device.module", f"the kernel knows no fuse; the site must: {_MODULE}")
    elif error == "EPERM" and mounts_for_all(setting.kernel) is False:
        text = f"the kernel {setting.kernel} is too old: FUSE in user namespaces needs 4.18, or EL7's 3.10.0-1127"
        found = Refusal("kernel", f"{text}; the site must update it")
    else:
        found = explain_mount(error, setting, filtered="mount" in trial.filtered, inside=trial.profile)
    return Refusal(found.code, f"{step}: {error}: {found.text}")


def explain_helper(helper: Helper | None, trial: FuseTrial, around: FuseSetting) -> Refusal | None:
    """Why FUSE does not work through the helper; None when it does."""
    step = trial.refused
    if helper is not None and not step:
        return None
    without = helper_without_rights(helper, around.setting)
    if without is not None or helper is None:
        return without
    error = trial.steps[step]
    if step == fuse_trial.POINT:
        return Refusal("workspace", f"no mount point could be made in the workspace: {error}")
    if step == fuse_trial.READ:
        return Refusal(
            "read", f"{helper.path} mounted, but the file could not be read: {error}; the site must find out why"
        )
    if error == "EACCES":
        text = (
            f"{helper.path} cannot be run by this account (mode {helper.mode:04o}, group {helper.gid}); the site must "
            f"set its mode: chmod 4755 {helper.path}, or add the account to that group: usermod -aG fuse ACCOUNT"
        )
        return Refusal("helper.mode", text)
    return _explain_message(helper, trial.said or error, around)


def helper_without_rights(helper: Helper | None, setting: Setting) -> Refusal | None:
    """What can be said of a helper before it is tried: None for one that gets the right to mount."""
    if helper is None:
        text = f"neither fusermount3 nor fusermount was found; the site must install the package fuse3: {_PACKAGE}"
        return Refusal("helper.missing", text)
    if not (helper.setuid or helper.capabilities):
        text = (
            f"{helper.path} is not setuid root (mode {helper.mode:04o}); the site must set it: chmod u+s {helper.path}"
        )
        return Refusal("helper.setuid", text)
    if helper.unmapped:
        text = (
            f"{helper.path} is setuid, but root has no account in the user namespace around the pilot; "
            f"{_CONTAINER} must run it without one"
        )
        return Refusal("helper.user_namespace", text)
    if helper.nosuid:
        text = (
            f"{helper.path} lies on a mount with the option nosuid; the site must allow it: mount -o remount,suid "
            f"{helper.mount_point}"
        )
        return Refusal("helper.nosuid", text)
    if setting.no_new_privileges:
        text = (
            f"{helper.path} gets no rights, as the pilot runs with no_new_privs; whoever starts it must leave that "
            "out: NoNewPrivileges=no (a systemd unit), allowPrivilegeEscalation: true (Kubernetes)"
        )
        return Refusal("helper.no_new_privs", text)
    return None


def _explain_message(helper: Helper, said: str, around: FuseSetting) -> Refusal:
    last = said.splitlines()[-1][:300] if said else "no reason"
    if "mounting over filesystem type" in said:
        text = f"{last}; the factory or the site must give the pilot a scratch directory on a local disk"
        return Refusal("helper.filesystem", text)
    if "mount_max" in said:
        return Refusal("helper.limit", f"{last}; the site must raise mount_max in /etc/fuse.conf")
    if "fuse.conf" in said or "unknown option" in said:
        return Refusal("helper.refused", f"{last}; the site must correct /etc/fuse.conf")
    if "failed to open" in said and DEVICE in said:
        return explain_device("EACCES" if "Permission denied" in said else "EPERM", around)
    if "Permission denied" in said and around.helper_profile:
        place = around.workspace.rstrip("/")
        rule = f"mount fstype=@{{fuse_types}} options=(nosuid,nodev,rw) -> {place}/**/, umount {place}/**/,"
        text = (
            f"{last}: the AppArmor profile {HELPER_PROFILE} allows few mount points; the site must add to "
            f"/etc/apparmor.d/local/fusermount3: {rule} and load it: apparmor_parser -r {HELPER_PROFILE}"
        )
        return Refusal("apparmor.fusermount3", text)
    if around.setting.initial is False:
        text = f"{last}: a setuid program has no rights over mounts in the user namespace around the pilot"
        return Refusal("helper.user_namespace", f"{text}; {_CONTAINER} must run it without one")
    if around.setting.seccomp == 2:
        return Refusal("seccomp", f"{last}: a seccomp filter or a missing capability; {_CONTAINER} must allow mount")
    return Refusal("helper.refused", f"{last}; {_CONTAINER}, or the site, must allow {helper.path} to mount")


def _mode(device: FileStatus | None) -> str:
    return "mode unknown" if device is None else f"mode {device.mode:04o}, owner {device.uid}:{device.gid}"
