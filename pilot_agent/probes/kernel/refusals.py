"""Why this machine refuses namespaces and mounts: who does it, and the exact change that whoever it is must make.

Pure judgements over what was read and tried. Sources: user_namespaces(7), namespaces(7), unshare(2), mount(2), the
kernel's ``Documentation/admin-guide/sysctl``, and the release notes of Ubuntu 23.10 and Red Hat Enterprise Linux 7.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pilot_agent.probes.kernel.namespaces import WHOLE_MACHINE
from pilot_agent.probes.mountinfo import read_mounts
from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import parse_integer

MAXIMUM = "user.max_user_namespaces"
CLONE = "kernel.unprivileged_userns_clone"
APPARMOR = "kernel.apparmor_restrict_unprivileged_userns"
SWITCHES = (MAXIMUM, CLONE, APPARMOR)

_SYSCTL_FILE = "/etc/sysctl.d/90-user-namespaces.conf"
_ENOUGH = 15000
_LARGEST = (1 << 31) - 1
# New user namespaces begin with the largest number; then another's limit was reached.
_NEVER_REACHED = 1 << 24
_CONTAINER = "whoever starts the container around the pilot"
_SECCOMP_CHANGE = (
    f"{_CONTAINER} must allow unshare, clone and mount: --security-opt seccomp=unconfined (Docker, Podman), "
    "seccompProfile: {type: Unconfined} (Kubernetes), RestrictNamespaces=no (a systemd unit)"
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """``code`` is one of a few stable words, ``text`` says what refuses, who must act, and what to change."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Setting:
    """What around a process decides whether it may make namespaces and mounts.

    ``seccomp`` is the kernel's mode (2: filtered), ``profile`` the AppArmor profile of the pilot, ``initial`` whether
    account numbers are the machine's own; None where nobody can tell.
    """

    sysctls: Mapping[str, int] = field(default_factory=dict)
    seccomp: int | None = None
    no_new_privileges: bool = False
    profile: str = ""
    selinux: bool = False
    chrooted: bool = False
    initial: bool | None = True
    kernel: str = ""


def read_setting(node: Node) -> Setting:
    """The setting of this process."""
    status = parse_status(node.read("/proc/self/status") or "")
    mounts = read_mounts(node)
    maps = node.read("/proc/self/uid_map")
    return Setting(
        sysctls=read_sysctls(node),
        seccomp=status.get("Seccomp"),
        no_new_privileges=status.get("NoNewPrivs") == 1,
        profile=read_profile(node),
        selinux=node.read_line("/sys/fs/selinux/enforce") == "1",
        # The root of a mount namespace is a mount; the kernel lists nothing above a process's own root.
        chrooted=bool(mounts) and all(mount.point != "/" for mount in mounts),
        initial=None if maps is None else maps.split() == WHOLE_MACHINE,
        kernel=node.read_line("/proc/sys/kernel/osrelease") or "",
    )


def read_sysctls(node: Node) -> dict[str, int]:
    """The switches of user namespaces that this kernel has; those missing on it are left out."""
    found = {name: node.read_integer("/proc/sys/" + name.replace(".", "/")) for name in SWITCHES}
    return {name: value for name, value in found.items() if value is not None}


def read_profile(node: Node) -> str:
    """The AppArmor profile of the pilot with its mode, such as ``docker-default (enforce)``; empty without AppArmor."""
    if node.read_line("/sys/module/apparmor/parameters/enabled") != "Y":
        return ""
    for path in ("/proc/self/attr/apparmor/current", "/proc/self/attr/current"):
        line = (node.read_line(path) or "").strip("\0 ")
        if line:
            return line
    return ""


def parse_status(text: str) -> dict[str, int]:
    """The whole numbers in ``/proc/PID/status`` (proc_pid_status(5)) by their field."""
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        number = parse_integer(value)
        if number is not None:
            found[name] = number
    return found


def confined(profile: str) -> bool:
    """True for a process that an AppArmor profile holds back; one in complain mode is only watched."""
    return (
        bool(profile) and not profile.startswith("unconfined") and not profile.endswith(("(complain)", "(unconfined)"))
    )


def switched_off(setting: Setting) -> Refusal | None:
    """What the switches alone say of ordinary accounts; None where they allow user namespaces."""
    if setting.sysctls.get(MAXIMUM) == 0:
        return Refusal("sysctl.max_user_namespaces", f"{MAXIMUM} is 0; {_must_set(setting, MAXIMUM, _ENOUGH)}")
    if setting.sysctls.get(CLONE) == 0:
        return Refusal("sysctl.unprivileged_userns_clone", f"{CLONE} is 0; {_must_set(setting, CLONE, 1)}")
    return None


def restricted_by_apparmor(setting: Setting, inside: str = "") -> Refusal | None:
    """AppArmor's part: a profile around the pilot, or the restriction of programs without one (Ubuntu 23.10 on).

    ``inside`` is the profile that a process gets with its user namespace: Ubuntu 24.04 allows the namespace and denies
    every capability in it.
    """
    if confined(setting.profile):
        text = (
            f"the AppArmor profile {setting.profile} around the pilot forbids it; {_CONTAINER} must use another: "
            "--security-opt apparmor=unconfined (Docker, Podman), appArmorProfile: {type: Unconfined} (Kubernetes)"
        )
        return Refusal("apparmor", text)
    if setting.sysctls.get(APPARMOR):
        became = f", which gives them the profile {inside}" if confined(inside) else ""
        text = (
            f"AppArmor restricts user namespaces of programs without a profile of their own ({APPARMOR} is 1{became}); "
            f"{_must_set(setting, APPARMOR, 0)}; or it gives the programs that make them an AppArmor profile with the "
            "rule 'userns,'"
        )
        return Refusal("apparmor", text)
    return None


def explain_user_namespace(error: str, setting: Setting, *, filtered: bool = False, inside: str = "") -> Refusal:
    """Why a user namespace, or the map of accounts in it, was refused with this errno name."""
    off = switched_off(setting)
    if off is not None:
        return off
    if filtered or (error == "ENOSYS" and setting.seccomp == 2):
        return Refusal("seccomp", f"a seccomp filter refuses it before the kernel is asked; {_SECCOMP_CHANGE}")
    if error in ("ENOSPC", "EUSERS"):
        return _limit(setting)
    if error in ("EINVAL", "ENOSYS"):
        return _kernel(setting)
    if error in ("EPERM", "EACCES"):
        apparmor = restricted_by_apparmor(setting, inside)
        if apparmor is not None:
            return apparmor
    if error == "EACCES" and setting.selinux:
        text = "SELinux forbids it; the site must allow the pilot's domain user_namespace { create } (ausearch -m avc)"
        return Refusal("selinux", text)
    if error == "EPERM" and setting.chrooted:
        text = "the pilot runs in a chroot, where the kernel forbids it; whoever starts the pilot must start it outside"
        return Refusal("chroot", text)
    if error == "EPERM":
        text = (
            "the kernel forbids it: a chroot, an account that the user namespace around the pilot does not map, or a "
            "security module; the site must find out which"
        )
        return Refusal("unknown", text)
    return Refusal("unknown", "refused by the kernel; the site must find out why")


def explain_mount(error: str, setting: Setting, *, filtered: bool = False, inside: str = "") -> Refusal:
    """Why a mount in a new user namespace was refused with this errno name."""
    if filtered:
        return Refusal("seccomp", f"a seccomp filter refuses mounts before the kernel is asked; {_SECCOMP_CHANGE}")
    apparmor = restricted_by_apparmor(setting, inside) if error in ("EPERM", "EACCES") else None
    if apparmor is not None:
        return apparmor
    if setting.selinux and error in ("EPERM", "EACCES"):
        return Refusal(
            "selinux", "SELinux forbids it; the site must allow the pilot's domain to mount (ausearch -m avc)"
        )
    if error == "ENOSPC":
        return Refusal("limit", f"fs.mount-max is reached; {_must_set(setting, 'fs.mount-max', 100000)}")
    return Refusal(
        "unknown",
        "user namespaces exist but mounts in them are refused: a security module does it; the site must find out which",
    )


def explain_namespace(kind: str, error: str, setting: Setting) -> Refusal:
    """Why a further namespace (``mnt``, ``pid``, ``net``, ``ipc``, ``uts``) was refused inside a user namespace."""
    name = f"user.max_{kind}_namespaces"
    if error in ("ENOSPC", "EUSERS"):
        return Refusal(f"sysctl.max_{kind}_namespaces", f"{name} is reached; {_must_set(setting, name, _ENOUGH)}")
    if error == "EINVAL":
        return Refusal(
            "kernel", f"this kernel ({setting.kernel or 'unknown'}) has none; the site must boot another one"
        )
    apparmor = restricted_by_apparmor(setting) if error in ("EPERM", "EACCES") else None
    return apparmor or Refusal(
        "unknown", "a security module or seccomp filter refuses it; the site must find out which"
    )


def _must_set(setting: Setting, name: str, value: int) -> str:
    """The change of a switch. Those of ``user`` count in each user namespace by itself (namespaces(7))."""
    line = f"sysctl -w {name}={value}"
    if name.startswith("user.") and setting.initial is False:
        return f"whoever made the user namespace around the pilot must set it there: {line}"
    return f"the site must set it: {line}, and keep it with the line '{name} = {value}' in {_SYSCTL_FILE}"


def _limit(setting: Setting) -> Refusal:
    now = setting.sysctls.get(MAXIMUM)
    if setting.initial is False and (now is None or now > _NEVER_REACHED):
        change = _must_set(setting, MAXIMUM, _ENOUGH)
        text = f"the limit of a user namespace around the pilot is used up, or 32 are nested already; {change}"
        return Refusal("limit", text)
    others = (
        "" if setting.initial is True else " (or that of a user namespace around the pilot, or 32 are nested already)"
    )
    change = _must_set(setting, MAXIMUM, min(max(_ENOUGH, 2 * (now or 0)), _LARGEST))
    here = "not known" if now is None else now
    return Refusal("limit", f"{MAXIMUM} is {here} and this account has used it up{others}; {change}")


def _kernel(setting: Setting) -> Refusal:
    version = setting.kernel or "unknown"
    if ".el7" in version:
        text = (
            f"the kernel {version} was started without user namespaces; the site must boot with them: "
            "grubby --update-kernel=ALL --args='user_namespace.enable=1 namespace.unpriv_enable=1', then reboot"
        )
        return Refusal("kernel", text)
    text = f"this kernel ({version}) was built without CONFIG_USER_NS; the site must boot another one"
    return Refusal("kernel", text)
