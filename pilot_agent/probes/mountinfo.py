"""The mounts of a process, as ``/proc/self/mountinfo`` lists them (proc_pid_mountinfo(5))."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pilot_agent.probes.node import Node

# File systems that other machines see too; so are all FUSE ones that are not known to be local.
_CLUSTER = "afs beegfs ceph gfs2 glusterfs gpfs lustre ocfs2 orangefs panfs pvfs2 wekafs"
_NETWORK = "9p cifs ncpfs nfs nfs4 smb3 smbfs virtiofs"
_SHARED = frozenset(f"{_CLUSTER} {_NETWORK}".split())
_LOCAL_FUSE = frozenset({"fuse.fuse-overlayfs", "fuse.squashfuse", "fuse.squashfuse_ll", "fuse.lxcfs", "fuseblk"})


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount: ``device`` is ``major:minor``, ``root`` the directory of the file system that is mounted."""

    device: str
    root: str
    point: str
    kind: str
    source: str
    options: tuple[str, ...]

    @property
    def shared(self) -> bool:
        """True for a network or cluster file system: other nodes see it, and it may hang."""
        return self.kind in _SHARED or (self.kind.startswith("fuse") and self.kind not in _LOCAL_FUSE)


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """The mounts in the kernel's order; lines that do not have its form are left out."""
    mounts = []
    for line in text.split("\n"):  # the kernel escapes no other end of a line in a name
        left, separator, right = line.partition(" - ")
        fields, kind = left.split(" "), right.split(" ")
        if not separator or len(fields) < 6 or len(kind) < 3:
            continue
        mounts.append(
            Mount(
                device=fields[2],
                root=_unescaped(fields[3]),
                point=_unescaped(fields[4]),
                kind=kind[0],
                source=_unescaped(kind[1]),
                options=tuple(kind[2].split(",")),
            )
        )
    return tuple(mounts)


def read_mounts(node: Node) -> tuple[Mount, ...]:
    """The mounts that this process sees; none when the kernel's list cannot be read."""
    return parse_mountinfo(node.read("/proc/self/mountinfo", limit_bytes=4 << 20) or "")


def mount_of(mounts: Iterable[Mount], path: str) -> Mount | None:
    """The mount that ``path`` (absolute, links resolved) lies on; the last one made where several cover it."""
    found: Mount | None = None
    for mount in mounts:
        inside = path == mount.point or path.startswith(mount.point.rstrip("/") + "/")
        if inside and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found


def _unescaped(text: str) -> str:
    """A field without the octal escapes that stand for blanks and backslashes."""
    if "\\" not in text:
        return text
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8) & 0xFF), text)
