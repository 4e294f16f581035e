"""The device nodes of GPUs: which of them this process can really open, and who keeps it from the others.

A control group of version 2 keeps devices by a program in the kernel that nobody can read, so that only opening tells.
Opening may hang with a broken driver: it happens in a child, and only what it answered is judged.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence

from pilot_agent.model import Json
from pilot_agent.probes.answers import Answer
from pilot_agent.probes.node import Node
from pilot_agent.probes.resources.cgroup import levels

TEST = "gpu device nodes"
# What the kernel or a container keeps from a job, as opposed to what does not work.
_KEPT = ("EPERM", "ENOENT")


def open_nodes(paths: Sequence[str]) -> Json:
    """Whether each can be opened: empty, or the name of the error."""
    return {path: _refusal(path) for path in paths}


def _refusal(path: str) -> str:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "EIO")
    return ""


def outcome(answer: Answer, path: str | None) -> str | None:
    """What opening one of them gave: empty when it opened, an error's name, None when nobody knows."""
    found = answer.value.get(path) if isinstance(answer.value, dict) and path else None
    return found if isinstance(found, str) else None


def is_kept(problem: str) -> bool:
    """True when a device that gave this error belongs to somebody else, and is not broken."""
    return problem in _KEPT


def explained(node: Node, path: str, problem: str) -> str:
    """An error for people: what it means for a device, and who must act."""
    if problem == "EPERM":
        return f"{kept_by_group(node, path) or 'the control group (devices)'} keeps {path} from this job"
    if problem == "ENOENT":
        return f"{path} is not in this container"
    if problem == "EACCES":
        status = node.status(path)
        mode = f" has mode {status.mode:04o} and group {status.gid}" if status else ""
        return f"{path}{mode}, which this account may not open; the site must add the account to that group"
    if problem in ("EIO", "ENODEV", "ENXIO"):
        return f"{path} cannot be opened ({problem}); the site must reload the GPU's driver or reboot the node"
    return f"{path} cannot be opened ({problem}); the site must act"


def kept_by_group(node: Node, path: str) -> str | None:
    """The version 1 control group whose list forbids the device at ``path``; None when it is allowed or not known.

    One group is enough: the kernel allows no group what its parent is not allowed.
    """
    status = node.status(path)
    level = next((each for each in levels(node, "devices") if each.version == 1), None)
    if status is None or not status.device or level is None:
        return None
    text = node.read(level.file("devices.list"))
    if text is None or is_allowed(text, status.device):
        return None
    return level.source("devices.list")


def is_allowed(text: str, device: str) -> bool:
    """Whether a ``devices.list`` allows reading and writing the character device ``major:minor``."""
    major, _, minor = device.partition(":")
    rights: set[str] = set()
    for kind, numbers, letters in _entries(text):
        listed_major, _, listed_minor = numbers.partition(":")
        if kind == "a" or (kind == "c" and listed_major in ("*", major) and listed_minor in ("*", minor)):
            rights.update(letters)
    return {"r", "w"} <= rights


def _entries(text: str) -> Iterable[tuple[str, str, str]]:
    """``kind major:minor rights`` of each line in the kernel's form."""
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 3:
            yield fields[0], fields[1], fields[2]
