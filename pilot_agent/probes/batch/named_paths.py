"""Files and directories that a variable names, looked at without the danger that a dead mount holds the probe.

Host files of batch systems and directories of features may lie on a network file system. What lies on one, or behind a
symbolic link or an automounter, is first looked at in a child with a deadline.
"""

from __future__ import annotations

import os

from pilot_agent.probes.mountinfo import mount_of, read_mounts
from pilot_agent.probes.node import Node

REACH_SECONDS = 2.0


def reachable(node: Node, path: str) -> bool:
    """False for a relative path, and for one that did not answer in time; True also where there is nothing."""
    if not path.startswith("/") or "\0" in path:
        return False
    if not _may_hang(node, path):
        return True
    answer = node.ask(f"reach {path}", lambda: os.path.exists(path), seconds=REACH_SECONDS)
    return not (answer.hung or answer.stuck)


def read_named(node: Node, path: str) -> str | None:
    """The beginning of a file that a variable names; None when it cannot be read or does not answer."""
    return node.read(path) if reachable(node, path) else None


def missing(node: Node, path: str) -> bool:
    """True when an absolute path surely is not on this node."""
    return reachable(node, path) and not node.exists(path)


def _may_hang(node: Node, path: str) -> bool:
    mounts = read_mounts(node)
    parts = os.path.normpath(path).lstrip("/").split("/")
    for end in range(1, len(parts) + 1):
        prefix = "/" + "/".join(parts[:end])
        mount = mount_of(mounts, prefix)
        if mount is not None and (mount.shared or mount.kind == "autofs"):
            return True
        # Its directory is local, so that looking at the entry itself cannot hang; where it leads may.
        if node.link(prefix) is not None:
            return True
    return False
