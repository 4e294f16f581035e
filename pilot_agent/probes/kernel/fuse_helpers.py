"""The programs that mount FUSE for accounts without rights: where they are, and whether they have the right to."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pilot_agent.model import Json
from pilot_agent.probes.kernel.namespaces import NOBODY
from pilot_agent.probes.mount_flags import Flagged, flags_of
from pilot_agent.probes.node import Node
from pilot_agent.probes.search_path import exchangeable, status_here

NAMES = ("fusermount3", "fusermount")
# First those where libfuse itself looks; local disks, so that looking there cannot hang.
DIRECTORIES = ("/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin", "/usr/local/sbin")
_ASKED_FOR_VERSION = 2
_CAPABILITY = "security.capability"
_VERSION = re.compile(r"version:?\s+([0-9][0-9A-Za-z.]{0,20})")


@dataclass(frozen=True, slots=True)
class Helper:
    """One helper. ``nosuid`` when the file system it lies on takes the bit away, ``capabilities`` when the file has
    some, ``unmapped`` when root has no account in the user namespace around the pilot; ``mode`` and ``gid`` say who may
    run it."""

    path: str
    mode: int
    gid: int
    setuid: bool = False
    nosuid: bool = False
    mount_point: str = "/"
    capabilities: bool = False
    version: str | None = None
    unmapped: bool = False

    @property
    def able(self) -> bool:
        """True when it gets the right to mount, whoever runs it."""
        return (self.setuid or self.capabilities) and not self.nosuid and not self.unmapped

    def as_json(self) -> Json:
        """How the fact ``fuse.helpers`` shows it."""
        shown = {"path": self.path, "setuid": self.setuid, "nosuid": self.nosuid, "version": self.version}
        return shown | ({"capabilities": True} if self.capabilities else {})


def find_helpers(node: Node, search_path: str, mounts: Sequence[Flagged] = ()) -> list[Helper]:
    """Every helper in the usual directories, version 3 first; those of the search path where there is none."""
    found = _helpers(node, (f"{directory}/{name}" for name in NAMES for directory in DIRECTORIES), mounts)
    if found:
        return found
    others = dict.fromkeys(part for part in search_path.split(":") if part.startswith("/") and part not in DIRECTORIES)
    if not others:
        return []
    # A search path may lead to a dead mount: only what a child saw there in time is looked at.
    paths = [f"{directory}/{name}" for name in NAMES for directory in others]
    seen = node.ask("FUSE helpers on the search path", lambda: [path for path in paths if _may_be_started(path)]).value
    return _helpers(node, (path for path in paths if path in (seen if isinstance(seen, list) else ())), mounts)


def best_helper(helpers: Sequence[Helper]) -> Helper | None:
    """The one that a FUSE program should use: the first that gets the right to mount, else the first."""
    return next((helper for helper in helpers if helper.able), helpers[0] if helpers else None)


def parse_version(text: str) -> str | None:
    """The version in what ``fusermount3 --version`` prints; None for something else."""
    match = _VERSION.search(text)
    return match[1] if match else None


def _helpers(node: Node, paths: Iterable[str], mounts: Sequence[Flagged]) -> list[Helper]:
    found: dict[str, Helper] = {}
    for path in paths:
        real = _resolved(node, path)
        status = None if real in found else node.status(path)
        if status is None or status.kind != "file":
            continue
        point, flags = flags_of(mounts, real)
        # Accounts that a user namespace does not map look like nobody in it.
        setuid = status.setuid_root or (bool(status.mode & stat.S_ISUID) and status.uid == NOBODY)
        found[real] = Helper(
            path=path,
            mode=status.mode,
            gid=status.gid,
            setuid=setuid,
            unmapped=setuid and status.uid == NOBODY,
            nosuid="nosuid" in flags,
            mount_point=point,
            capabilities=not setuid and _has_capabilities(node, path),
            version=_version(node, path) if len(found) < _ASKED_FOR_VERSION else None,
        )
    return list(found.values())


def _may_be_started(path: str) -> bool:
    """Whether there is a file that not everybody on the node may exchange."""
    return os.path.isfile(path) and not exchangeable(path, os.path.realpath(path), status_here)


def _resolved(node: Node, path: str) -> str:
    """The path with a link of its directory and one of its own followed: /bin is /usr/bin on most nodes, and
    fusermount is fusermount3 on some."""
    directory, name = os.path.split(path)
    target = node.link(directory)
    directory = os.path.normpath(os.path.join(os.path.dirname(directory), target)) if target else directory
    target = node.link(f"{directory}/{name}")
    return os.path.normpath(os.path.join(directory, target)) if target else f"{directory}/{name}"


def _has_capabilities(node: Node, path: str) -> bool:
    """Whether the file gives capabilities to whoever runs it (capabilities(7)); few distributions do that."""

    def look() -> Json:
        try:
            return _CAPABILITY in os.listxattr(path)
        except OSError:
            return False

    return node.ask(f"file capabilities of {path}", look, here=True).value is True


def _version(node: Node, path: str) -> str | None:
    command = node.run([path, "--version"], seconds=2.0, limit_bytes=4096)
    return parse_version(command.stdout + command.stderr)
