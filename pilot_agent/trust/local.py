"""Whether a file of this node may be believed: only this account and root can change it, and what it is called.

The rule is that of sshd's StrictModes and of design section 10: owned by root or the caller, not writable by others.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_ORDINARY_ID = 1000
PACKAGE_MARK = "__init__.py"
METADATA_ENDS = (".dist-info", ".egg-info")


def writable_by_others(path: str) -> str:
    """Why accounts other than root and this one may change what ``path`` is, for the end of a message; empty when none
    may, or when there is nothing: whoever reads it says so.

    A file system that is mounted read-only is nobody's to change. The group counts as others, except a user's private
    group.
    """
    try:
        status = os.stat(path)
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            return ""
    except OSError:
        return ""
    if status.st_uid not in _trusted_owners():
        return f"{path} belongs to the account {status.st_uid}, and neither to root nor to this one"
    way, reach = "", _Reach()
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):  # a pipe of the shell has no place to speak of
        way, reach = _way_to(path)
    if way:
        return way
    if status.st_mode & stat.S_IWOTH and reach.everybody:
        return f"{path} may be written by everybody"
    if status.st_mode & stat.S_IWGRP and reach.group and not _private_group(status):
        return f"{path} may be written by everybody of its group {status.st_gid}"
    return ""


def replaceable_by_others(directory: str) -> str:
    """Why everybody on this node could put something else in the place of what is made in ``directory``, for the end of
    a message; empty when nobody could. The groups and accounts that a site gave a directory to are not everybody."""
    return _way_to(os.path.join(directory, "new"))[0]


def code_writable_by_others(directory: str) -> str:
    """``writable_by_others`` of a directory that modules are imported from: it, and every module, package and
    distribution in it."""
    return next(filter(None, map(writable_by_others, _code(directory))), "")


class _Reach:
    """Who comes so far on the way to a path: everybody, those of a directory's group."""

    __slots__ = ("everybody", "group")

    def __init__(self) -> None:
        self.everybody = self.group = True


def _way_to(path: str) -> tuple[str, _Reach]:
    """Why everybody may put something else in the place of ``path`` or of a directory above it; and who gets to it."""
    reach = _Reach()
    # As it is named and as it is: a link on the way must not be replaced either.
    for whole in dict.fromkeys((os.path.abspath(path), os.path.realpath(path))):
        reach = _Reach()
        for directory in _above(whole):
            try:
                status = os.stat(directory)
            except OSError:
                continue
            if reach.everybody and status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
                return f"in {directory} everybody may rename and remove what is there (no sticky bit)", reach
            if status.st_uid in _trusted_owners():
                reach.everybody = reach.everybody and bool(status.st_mode & stat.S_IXOTH)
                reach.group = reach.group and bool(status.st_mode & (stat.S_IXOTH | stat.S_IXGRP))
    return "", reach


def _above(path: str) -> Iterator[str]:
    """The directories above an absolute path, the root first."""
    parts = path.split("/")
    return ("/".join(parts[:end]) or "/" for end in range(1, len(parts)))


def _trusted_owners() -> tuple[int, ...]:
    """Root and this account. In a user namespace that does not map root its files show the overflow uid
    (user_namespaces(7)), and so do those of other accounts outside: they cannot be told apart there."""
    owners = (0, os.geteuid())
    try:
        with open("/proc/self/uid_map", encoding="utf-8") as mapping:
            inside = mapping.read().split() != ["0", "0", "4294967295"]
        with open("/proc/sys/kernel/overflowuid", encoding="utf-8") as number:
            overflow = int(number.read())
    except (OSError, ValueError):
        return owners
    return (*owners, overflow) if inside else owners


def _private_group(status: os.stat_result) -> bool:
    """Whether the group is one that its owner is alone in, as most distributions make for each user."""
    return status.st_gid == status.st_uid >= FIRST_ORDINARY_ID


def _code(directory: str) -> Iterator[str]:
    yield directory
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return
    for entry in entries:
        if not entry.is_dir():
            if entry.name.endswith((".py", ".so", ".pyc")):
                yield entry.path
        elif entry.name.endswith(METADATA_ENDS) or os.path.exists(os.path.join(entry.path, PACKAGE_MARK)):
            for parent, _, files in os.walk(entry.path):
                yield parent
                yield from (os.path.join(parent, name) for name in files)
