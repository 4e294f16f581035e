"""Paths below /cvmfs where CVMFS is mounted elsewhere on the node: as jobs name them, and where they really are.

Whoever names an image says /cvmfs/..., and so do the links in repositories; only who opens one needs its real place.
"""

from __future__ import annotations

import errno
import os
import stat

from pilot_agent import CVMFS

MOST_LINKS = 40


def physical(path: str, mount_point: str) -> str:
    """Where a path of /cvmfs is on this node; any other path as it is."""
    if mount_point != CVMFS and (path == CVMFS or path.startswith(f"{CVMFS}/")):
        return mount_point + path[len(CVMFS) :]
    return path


def logical(path: str, mount_point: str) -> str:
    """The other way round."""
    if mount_point != CVMFS and (path == mount_point or path.startswith(f"{mount_point}/")):
        return CVMFS + path[len(mount_point) :]
    return path


def real_place(path: str, mount_point: str) -> str:
    """Where a path of /cvmfs is on this node, without links where the node has CVMFS elsewhere: there what leads to
    /cvmfs leads nowhere. A link that leads nowhere stays as it is. May hang where a repository does."""
    if mount_point == CVMFS:
        return path
    try:
        return physical(resolve(path, mount_point), mount_point)
    except OSError:
        return physical(path, mount_point)


def resolve(path: str, mount_point: str) -> str:
    """The path without links, which lead from /cvmfs to /cvmfs wherever it is mounted. Raises ``OSError`` for one that
    leads nowhere."""
    if mount_point == CVMFS:
        return os.path.realpath(path, strict=True)
    here, links = "/", 0
    left = os.path.abspath(path).split("/")[::-1]
    while left:
        name = left.pop()
        if name in ("", "."):
            continue
        if name == "..":
            here = os.path.dirname(here)
            continue
        there = os.path.join(here, name)
        real = physical(there, mount_point)
        if not stat.S_ISLNK(os.lstat(real).st_mode):
            here = there
            continue
        links += 1
        if links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink(real)
        here = "/" if target.startswith("/") else here
        left += target.split("/")[::-1]
    return logical(here, mount_point)
