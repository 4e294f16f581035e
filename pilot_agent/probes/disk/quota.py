"""Quotas of the account and its group on a file system, as quotactl(2) tells them to anybody about himself.

The limit of a project (XFS, ext4) is not among them: statvfs(2) of a directory that has one shows it as the size of the
file system. Network and cluster file systems keep their quotas on their servers and tell them only to their own tools.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pilot_agent.probes.kernel.namespaces import errno_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes

_OPTION = re.compile(r"(?:usr|grp|u|g)(?:j?quota)(?:=.+)?|quota(?:=(?:on|account|quiet))?|[ug]qnoenforce")
_GROUP_OF_DIRECTORY = frozenset({"grpid", "bsdgroups"})
_Q_GETQUOTA = 0x800007
_TYPES: tuple[tuple[Literal["user", "group"], int], ...] = (("user", 0), ("group", 1))
# One number on every architecture with the common table (kernel 5.14).
_SYS_QUOTACTL_FD = 443
_BLOCK_BYTES = 1024
# struct if_dqblk of <linux/quota.h>: hard, soft, used bytes; hard, soft, used inodes; two ends of grace; what is valid.
_LIMITS = struct.Struct("=8QI4x")


@dataclass(frozen=True, slots=True)
class Quota:
    """One quota: of the ``user`` or ``group`` with this ``id``; limits are None where there is none.

    ``soft`` limits may be exceeded until the end of grace (seconds since 1970; 0 while they are not exceeded).
    """

    of: Literal["user", "group"]
    id: int
    used_bytes: int
    soft_bytes: int | None
    hard_bytes: int | None
    grace_ends: int
    used_inodes: int
    soft_inodes: int | None
    hard_inodes: int | None
    inode_grace_ends: int
    asked: float

    @property
    def limit_bytes(self) -> int | None:
        """What may be written at most, for good or, without a hard limit, until the end of grace."""
        return self.soft_bytes if self.hard_bytes is None else self.hard_bytes

    @property
    def free_bytes(self) -> int | None:
        """What may still be written; None without a limit."""
        return _room(self.used_bytes, self.soft_bytes, self.hard_bytes, self._over(self.grace_ends))

    @property
    def free_inodes(self) -> int | None:
        """How many files may still be made; None without a limit."""
        return _room(self.used_inodes, self.soft_inodes, self.hard_inodes, self._over(self.inode_grace_ends))

    @property
    def source(self) -> str:
        """How limits name it."""
        return f"quota of {self.of} {self.id}"

    def _over(self, grace_ends: int) -> bool:
        return 0 < grace_ends < self.asked


def has_quota(options: Sequence[str]) -> bool:
    """True when a file system is mounted with quotas of users or groups, by the options that mountinfo shows."""
    return any(_OPTION.fullmatch(option) for option in options)


def read_quotas(directory: str, source: str, options: Sequence[str]) -> tuple[Quota, ...]:
    """The quotas with a limit that count for files made in a directory of a file system mounted from ``source`` with
    these options; none where nobody tells. May hang where the directory does."""
    found = []
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        inherited = bool(status.st_mode & stat.S_ISGID) or not _GROUP_OF_DIRECTORY.isdisjoint(options)
        ids = {"user": os.geteuid(), "group": status.st_gid if inherited else os.getegid()}
        for of, number in _TYPES:
            raw = _ask(descriptor, source, number, ids[of])
            quota = None if raw is None else parse_limits(raw, of, ids[of], time.time())
            if quota is not None:
                found.append(quota)
    finally:
        os.close(descriptor)
    return tuple(found)


def parse_limits(raw: bytes, of: Literal["user", "group"], owner: int, now: float) -> Quota | None:
    """The quota in the kernel's ``struct if_dqblk``; None when it sets no limit."""
    hard, soft, used, hard_inodes, soft_inodes, inodes, grace, inode_grace, _ = _LIMITS.unpack(raw)
    if not (hard or soft or hard_inodes or soft_inodes):
        return None
    return Quota(
        of,
        owner,
        used,
        soft * _BLOCK_BYTES or None,
        hard * _BLOCK_BYTES or None,
        grace,
        inodes,
        soft_inodes or None,
        hard_inodes or None,
        inode_grace,
        now,
    )


def _room(used: int, soft: int | None, hard: int | None, grace_is_over: bool) -> int | None:
    if soft is not None and used > soft and grace_is_over:
        return 0
    limit = soft if hard is None else hard
    return None if limit is None else max(0, limit - used)


def _ask(descriptor: int, source: str, kind: int, owner: int) -> bytes | None:
    """The raw answer; None where there is no such quota or it is not told."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(_LIMITS.size)
    command = _Q_GETQUOTA << 8 | kind
    code = libc.syscall(
        ctypes.c_long(_SYS_QUOTACTL_FD),
        ctypes.c_ulong(descriptor),
        ctypes.c_ulong(command),
        ctypes.c_ulong(owner),
        buffer,
    )
    if code != 0 and errno_name(ctypes.get_errno()) == "ENOSYS":
        code = _ask_device(libc, source, command, owner, buffer)
    return buffer.raw if code == 0 else None


def _ask_device(libc: ctypes.CDLL, source: str, command: int, owner: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
    """Before kernel 5.14 the question goes to the block device."""
    import ctypes

    if not source.startswith("/"):
        return -1
    return int(libc.quotactl(ctypes.c_uint(command), os.fsencode(source), ctypes.c_int(owner), buffer))
