"""FUSE: whether this account may mount with it, through a helper or inside a user namespace."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, Finding
from pilot_agent.probes.answers import NOT_RECORDED
from pilot_agent.probes.namespaces import Trial, try_fuse_mount
from pilot_agent.probes.node import Node
from pilot_agent.probes.userns import in_initial_namespace

DEVICE = "/dev/fuse"
_HELPERS = ("fusermount3", "fusermount")
_DIRECTORIES = ("/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin")


def find_helpers(node: Node, search_path: str) -> dict[str, bool]:
    """Path -> whether it is setuid root, for every helper on the search path and in the usual directories, version 3
    first."""
    directories = dict.fromkeys([*(part for part in search_path.split(":") if part.startswith("/")), *_DIRECTORIES])
    found: dict[str, bool] = {}
    known: set[str] = set()
    for name in _HELPERS:
        for directory in directories:
            real = node.path(f"{directory}/{name}")
            try:
                status = os.stat(real) if real else None
            except OSError:
                continue
            if real is None or status is None or not stat.S_ISREG(status.st_mode):
                continue
            # /bin and /usr/bin are the same directory on most nodes.
            if os.path.realpath(real) not in known:
                known.add(os.path.realpath(real))
                found[f"{directory}/{name}"] = bool(status.st_mode & stat.S_ISUID) and status.st_uid == 0
    return found


def parse_filesystems(text: str) -> frozenset[str]:
    """The file systems that ``/proc/filesystems`` lists."""
    return frozenset(line.split()[-1] for line in text.splitlines() if line.split())


def open_device(path: str = DEVICE) -> str:
    """Why the device cannot be opened for reading and writing; empty when it can."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return f"{path} is missing; the site must load the fuse module, or pass the device to the container"
        if error.errno in (errno.EACCES, errno.EPERM):
            return f"{path} cannot be opened by this account ({_mode(path)}); the site must set its mode to 0666"
        return f"{path} cannot be opened: {error.strerror}"
    return ""


def closed_to_others(path: str = DEVICE) -> str:
    """Why ordinary accounts cannot open the device that root could; empty when they can or its mode is not told."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return ""
    if mode & 0o006 == 0o006:
        return ""
    return f"root may open {path}, other accounts may not ({_mode(path)}); the site must set its mode to 0666"


def _mode(path: str) -> str:
    try:
        return f"mode {stat.S_IMODE(os.stat(path).st_mode):04o}"
    except OSError:
        return "mode unknown"


def probe_fuse(context: Context) -> Iterator[Finding]:
    """``fuse.usable``, ``fuse.helper`` (path of a setuid one first), ``fuse.device`` and ``fuse.userns_mount``."""
    node = Node.of(context)
    helpers = find_helpers(node, context.environment.get("PATH", ""))
    setuid = any(helpers.values())
    if helpers:
        best = next(path for path, able in helpers.items() if able or not setuid)
        yield Fact("fuse.helper", best, source="search path", detail="setuid" if setuid else "not setuid")
    elif node.live:
        yield Fact.absent("fuse.helper", "neither fusermount3 nor fusermount was found")
    else:
        yield Fact.unknown("fuse.helper", NOT_RECORDED)
    if not node.live:
        for name in ("fuse.device", "fuse.userns_mount"):
            yield Fact.unknown(name, NOT_RECORDED)
        yield _recorded(node)
        return
    privileged = os.geteuid() == 0 and in_initial_namespace(node)
    refused = open_device() or (closed_to_others() if privileged else "")
    yield Fact("fuse.device", not refused, source=DEVICE, detail=refused)
    trial = None if refused else try_fuse_mount()
    if trial is None:
        yield Fact("fuse.userns_mount", False, source=DEVICE, detail=refused)
    else:
        why = f"{trial.failed}: {trial.error}" if trial.failed else ""
        yield Fact("fuse.userns_mount", not why, source="mount in a user namespace", detail=why)
    yield judge(refused, trial, setuid, root=privileged)


def judge(refused: str, trial: Trial | None, setuid_helper: bool, *, root: bool) -> Fact:
    """``fuse.usable``: the device opens, and root, a setuid helper or a user namespace can make the mount."""
    name = "fuse.usable"
    if refused or trial is None:
        return Fact(name, False, source=DEVICE, detail=refused)
    if not trial.failed:
        return Fact(name, True, source="mount in a user namespace")
    if setuid_helper or root:
        only = "root" if root else "the setuid helper"
        detail = f"only through {only}; in a user namespace: {trial.failed}: {trial.error}"
        return Fact(name, True, source=DEVICE, detail=detail)
    return Fact(
        name,
        False,
        source="mount in a user namespace",
        detail=f"{trial.failed}: {trial.error}, and no setuid fusermount3; the site must install fuse3 or allow "
        "unprivileged user namespaces (kernel 4.18 or newer)",
    )


def _recorded(node: Node) -> Fact:
    listed = node.read("/proc/filesystems")
    if listed is not None and "fuse" not in parse_filesystems(listed):
        detail = "the kernel does not list fuse in /proc/filesystems; the site must load the fuse module"
        return Fact("fuse.usable", False, source="/proc/filesystems", detail=detail)
    return Fact.unknown("fuse.usable", NOT_RECORDED)
