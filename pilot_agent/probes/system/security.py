"""The security modules that may stand in a pilot's way: SELinux and AppArmor, their mode and the pilot's own label."""

from __future__ import annotations

import re

from pilot_agent.model import Fact
from pilot_agent.probes.node import Node

SELINUX = "os.selinux"
APPARMOR = "os.apparmor"

_ENFORCE = "/sys/fs/selinux/enforce"
_CONFIGURATION = "/etc/selinux/config"
_FILE_SYSTEMS = "/proc/filesystems"
_LABEL = "/proc/self/attr/current"
_APPARMOR_LABEL = "/proc/self/attr/apparmor/current"
_APPARMOR_ENABLED = "/sys/module/apparmor/parameters/enabled"
_PROFILE = re.compile(r"(.{1,200}?)(?: \(([a-z]{1,20})\))?")


def parse_selinux_config(text: str) -> str | None:
    """``SELINUX`` in /etc/selinux/config (selinux_config(5)): enforcing, permissive or disabled; None for no such."""
    found = re.findall(r"(?m)^\s*SELINUX\s*=\s*(enforcing|permissive|disabled)\s*$", text)
    return found[-1] if found else None


def parse_profile(text: str) -> tuple[str, str | None] | None:
    """Profile and mode of a process by AppArmor: ``unconfined``, or ``docker-default (enforce)``; None for neither."""
    match = _PROFILE.fullmatch(text.strip("\0\n "))
    return (match[1], match[2]) if match else None


def find_selinux(node: Node) -> Fact:
    """``os.selinux``: enforcing, permissive or disabled; absent where the system has none of it."""
    mode = node.read_line(_ENFORCE)
    if mode in ("0", "1"):
        label = (node.read_line(_LABEL) or "").strip("\0")
        detail = f"the pilot runs as {label}" if label else ""
        return Fact(SELINUX, "enforcing" if mode == "1" else "permissive", source=_ENFORCE, detail=detail)
    listed = node.read(_FILE_SYSTEMS)
    # The kernel registers its file system only where SELinux was not switched off at the start.
    if listed is not None and "selinuxfs" in listed.split():
        why = f"the kernel has SELinux switched on, but {_ENFORCE} is hidden, as containers do"
        return Fact.unknown(SELINUX, why, source=_FILE_SYSTEMS)
    configured = parse_selinux_config(node.read(_CONFIGURATION) or "")
    if configured:
        detail = "" if configured == "disabled" else f"{_CONFIGURATION} says {configured}, the kernel runs without"
        return Fact(SELINUX, "disabled", source=_CONFIGURATION, detail=detail)
    if listed is None:
        return Fact.unknown(SELINUX, f"neither {_ENFORCE} nor {_FILE_SYSTEMS} could be read")
    return node.absence(SELINUX, f"no {_ENFORCE}, and no {_CONFIGURATION} that says a mode", _ENFORCE, _CONFIGURATION)


def find_apparmor(node: Node) -> Fact:
    """``os.apparmor``: ``{"enabled", "profile", "mode"}``, the last two of the pilot itself, null where not told."""
    switch = node.read_line(_APPARMOR_ENABLED)
    if switch is None:
        # Where AppArmor is compiled in, its module's parameters are always there; without sysfs nobody can tell.
        if not node.exists("/sys/module"):
            return Fact.unknown(APPARMOR, "/sys/module could not be looked at", source=_APPARMOR_ENABLED)
        looked_for = f"no {_APPARMOR_ENABLED}: the kernel has no AppArmor"
        return node.absence(APPARMOR, looked_for, _APPARMOR_ENABLED, source=_APPARMOR_ENABLED)
    enabled = switch == "Y"
    found, source = None, _APPARMOR_ENABLED
    if enabled:
        # Kernels before 5.1 have the common file only, which is another module's where there are several.
        source = _APPARMOR_LABEL if node.exists(_APPARMOR_LABEL) else _LABEL
        found = parse_profile(node.read_line(source) or "")
    profile, mode = found or (None, None)
    value = {"enabled": enabled, "profile": profile, "mode": mode}
    return Fact(APPARMOR, value, source=source if found else _APPARMOR_ENABLED)
