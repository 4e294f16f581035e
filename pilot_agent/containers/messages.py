"""What a container runtime says when it fails -> a stable code, who must act, and what would change it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pilot_agent.model import FailureKind

Scope = Literal["node", "image", "pid_namespace", "sif", "gpu"]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """``scope`` tells what is of no use: the runtime on this node, this image, PID namespaces, SIF files, or GPUs."""

    code: str
    kind: FailureKind
    scope: Scope
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class _Known:
    pattern: str
    code: str
    kind: FailureKind
    scope: Scope
    hint: str


_NODE, _CONFIG = FailureKind.NODE_RESOURCE, FailureKind.CONFIG
_USERNS_HINT = (
    "the site allows unprivileged user namespaces (user.max_user_namespaces > 0, kernel.unprivileged_userns_clone = 1, "
    "no seccomp filter around the pilot) or installs apptainer-suid"
)

_SITE_CONFIGURATION = "the site changes that line of apptainer.conf, or the pilot uses another runtime"

BIND_TARGET = "container.bind_target"
"""The place of a bind is not in this image: the fault of whoever asked for both, never of the image alone."""

# The first that matches decides, so the narrower ones come first. The texts are those of Apptainer 1.1 to 1.5.
_KNOWN = (
    _Known(
        r"can'?t mount proc filesystem|mount(ing)? .*\bproc\b.*(not permitted|permission denied)",
        "apptainer.pid_namespace", _NODE, "pid_namespace",
        "whoever starts the container around the pilot leaves /proc unmasked",
    ),
    # The kernel says ENOSPC of a namespace that is one too many, and it has nothing to do with a disk.
    _Known(r"failed to create container process: no space left on device", "node.pid_namespaces_used_up", _NODE,
           "pid_namespace", "the site raises the limit: sysctl -w user.max_pid_namespaces=15000"),
    _Known(r"maximum number of (mount|ipc|uts|network) namespaces exceeded", "node.namespaces_used_up", _NODE, "node",
           "the site raises the limit that the message names: sysctl -w user.max_mnt_namespaces=15000, for example"),
    _Known(r"setgroups: Permission denied|waiting event for user namespace mappings", "userns.apparmor", _NODE, "node",
           "the site sets kernel.apparmor_restrict_unprivileged_userns = 0 or uses the distribution's Apptainer, "
           "which has a profile"),
    _Known(r"user name(space|pace) needed but not allowed by configuration", "apptainer.userns_forbidden", _NODE,
           "node", "the site's apptainer.conf says allow user ns = no: " + _SITE_CONFIGURATION),
    _Known(r"nesting depth of user namespaces", "userns.nested_too_deep", _NODE, "node",
           "the pilot already runs in containers in containers: whoever starts them uses fewer"),
    _Known(r"Failed to create user namespace|user namespace not supported|user namespace disabled|"
           r"not allowed to create user namespace",
           "userns.disabled", _NODE, "node", _USERNS_HINT),
    _Known(r"Failed to create mount namespace|mount namespace requires privileges", "userns.no_mount_namespace",
           _NODE, "node", _USERNS_HINT),
    _Known(r"unknown userid|user: unknown user", "account.not_in_passwd", _NODE, "node",
           "the site gives the pilot's account an entry in the password database"),
    _Known(r"hidepid option set on /proc", "node.proc_hidepid", _NODE, "node",
           "the site mounts /proc with hidepid=0, or the runtime's unprivileged mode is used"),
    _Known(r"user bind control is disallowed|user bind control disabled", "apptainer.binds_forbidden", _NODE, "node",
           "the site's apptainer.conf says user bind control = no: " + _SITE_CONFIGURATION),
    _Known(r"multiple devpts instances unsupported", "node.no_devpts", _NODE, "node",
           "whoever starts the pilot gives it a /dev with pts and ptmx"),
    _Known(r"no layer in use|failed to mount overlay|while mounting overlay|overlay.*not permitted",
           "apptainer.no_overlay", _NODE, "node",
           "the site allows overlay or underlay in apptainer.conf, installs fuse-overlayfs or a kernel of 5.11 or "
           "newer, or the image gets the missing directory"),
    _Known(r"mount source .* doesn't exist|mount source .* does not exist", "container.bind_missing", _CONFIG, "node",
           "the bind's source must exist on the node, or be taken out of containers.binds"),
    _Known(r"unknown (shorthand )?flag", "container.option_unknown", _CONFIG, "node",
           "a configured option is not known to this version of the runtime: take it out, or use a newer runtime"),
    _Known(r"cannot use cgroups|while applying cgroups config", "apptainer.no_cgroups", _NODE, "node",
           "no limits are given to the runtime: HTCondor and the batch system limit jobs"),
    _Known(r"squashfuse.*(mount failed|not permitted|fusermount|/dev/fuse|device not found)|fuse: mount failed|"
           r"fuse: device not found",
           "fuse.missing", _NODE, "sif", "the site makes /dev/fuse usable for ordinary users, or the VO offers an "
           "unpacked image directory"),
    _Known(r"unsquashfs.*not found|unsquashfs: executable file not found|mksquashfs.*not found", "squashfs.tools",
           _NODE, "sif", "the site installs squashfs-tools, or the VO offers an unpacked image directory"),
    _Known(r"failed to find loop device|no loop devices", "apptainer.no_loop_device", _NODE, "sif",
           "the site raises the number of loop devices, or installs squashfuse"),
    _Known(r"(the image'?s architecture|image targets).*(could not run on the host|not supported)",
           "image.wrong_architecture", _CONFIG, "image",
           "the image is for another processor architecture: give its candidate an arch"),
    _Known(r"trying to read the squashfs image|can't find a valid squashfs|corrupt|failed to read SIF partition|"
           r"while reading .*header.*EOF|while loading SIF",
           "image.damaged", _CONFIG, "image", "the file is cut short or damaged: publish the image again"),
    _Known(r"image format not recognized", "image.format", _CONFIG, "image",
           "the file is no image that the runtime knows, or its transfer was cut short: publish it again"),
    _Known(r"exec format error", "image.wrong_architecture", _CONFIG, "image",
           "the image is for another processor architecture: give its candidate an arch"),
    _Known(r"kernel too old", "image.needs_newer_kernel", _CONFIG, "image",
           "the image needs a newer kernel: give its candidate requires: {kernel: ...}"),
    _Known(r"not in an allowed configured path|disallows users from running|not owned by (an |required )?(allowed|"
           r"group|user)", "apptainer.image_forbidden", _NODE,
           "image", "the site's apptainer.conf forbids this image: the site allows its path, or the VO offers another"),
    _Known(r"failed to resolve path .*: lstat", "apptainer.configuration", _NODE, "node",
           "the site's apptainer.conf names a path that does not exist (limit container paths): the site corrects it"),
    _Known(r"could not retrieve ld cache|could not execute ldconfig|could not find any nv libraries",
           "gpu.libraries_missing", _NODE, "gpu",
           "the site installs the driver's libraries and ldconfig where the pilot runs"),
    _Known(r"destination (/dev|/proc|/sys|/tmp|/var/tmp) doesn't exist in container", "image.incomplete", _CONFIG,
           "image", "the image lacks a directory that every image needs (/dev /proc /sys /tmp /var/tmp): add it"),
    _Known(r"destination .* doesn't exist in container", BIND_TARGET, _CONFIG, "image",
           "the site or the VO takes the bind to that place out of containers.binds, or the image gets the place"),
    _Known(r"is not readable by the current user", "image.not_readable", _CONFIG, "image",
           "whoever publishes the image lets everybody read it"),
    _Known(r"/bin/sh: no such file|\"/bin/sh\": executable file not found", "image.no_shell", _CONFIG, "image",
           "the image has no /bin/sh: use one with a shell"),
    _Known(r"executable file not found in \$PATH|\bstat /\S+: no such file", "image.no_program", _CONFIG, "image",
           "the image lacks that program: install it there, or name one that it has"),
    _Known(r"[Tt]ransport endpoint is not connected", "image.mount_dead", _NODE, "image",
           "a FUSE mount (CVMFS or squashfuse) died: the site mounts it again"),
    _Known(r"failed to retrieve path|no such file or directory", "image.missing", _CONFIG, "image",
           "correct the path, or publish the image there"),
    _Known(r"no space left on device", "disk.full", _NODE, "node", "free space in the scratch directory"),
)  # fmt: skip

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LEVEL = re.compile(r"^(FATAL|ERROR|WARNING|INFO)\s*:\s*")


def diagnose(stderr: str) -> Diagnosis:
    """What the runtime's error output means; unknown text is ``image.not_runnable``."""
    text = _COLOUR.sub("", stderr)
    message = _last_error(text)
    for known in _KNOWN:
        if re.search(known.pattern, text, re.IGNORECASE):
            return Diagnosis(known.code, known.kind, known.scope, message, known.hint)
    hint = "run the same command by hand on the node; the VO corrects the image, or the site the runtime"
    return Diagnosis("image.not_runnable", _CONFIG, "image", message or "the runtime said nothing", hint)


def _last_error(text: str) -> str:
    """The last fatal line without its level, else the last error, else the last line; at most 300 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # After a mistake in the options the runtime explains them all.
    for level in ("FATAL", "ERROR", "Error for command"):
        said = [line for line in lines if line.startswith(level)]
        if said:
            return _LEVEL.sub("", said[-1])[:300]
    return _LEVEL.sub("", lines[-1])[:300] if lines else ""
