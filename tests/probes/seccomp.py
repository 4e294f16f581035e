"""A seccomp filter as containers have it: ``python3 seccomp.py CALL[,CALL...] PROGRAM [ARGUMENT...]``.

Calls are ``userns`` (unshare and clone with CLONE_NEWUSER) and ``mount``; both then fail with EPERM. ``newer`` are all
calls that Linux 4.18, the kernel of Enterprise Linux 8, does not know; they fail with ENOSYS as there. Only the
standard library is used, so that the file can be put on any node.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Sequence

_NEW_USER = 0x10000000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _EPERM, _ENOSYS = 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38
_NUMBER_AT, _FIRST_ARGUMENT_AT = 0, 16
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2
_CALLS = {
    # rseq is the last call of 4.18 on both.
    "x86_64": {"unshare": 272, "clone": 56, "mount": 165, "rseq": 334},
    "aarch64": {"unshare": 97, "clone": 220, "mount": 40, "rseq": 293},
}


def refuse(*calls: str, no_new_privileges: bool = True) -> None:
    """Refuse these calls to this process and its children for good. Raises ``OSError``."""
    program = b"".join(struct.pack("=HBBI", *line) for line in _program(calls))
    buffer = ctypes.create_string_buffer(program)

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("lines", ctypes.c_void_p))

    filter_program = Program(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    if no_new_privileges and libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(filter_program), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def _program(calls: Sequence[str]) -> list[tuple[int, int, int, int]]:
    """The filter in the classic form of BPF: operation, lines to skip when true and when false, operand."""
    numbers = _CALLS[os.uname().machine]
    lines = [(_LOAD, 0, 0, _NUMBER_AT)]
    if "newer" in calls:
        lines += [(_AT_LEAST, 0, 1, numbers["rseq"] + 1), (_RETURN, 0, 0, _ENOSYS)]
    if "mount" in calls:
        lines += [(_EQUAL, 0, 1, numbers["mount"]), (_RETURN, 0, 0, _EPERM)]
    if "userns" in calls:
        lines += [(_EQUAL, 1, 0, numbers["unshare"]), (_EQUAL, 0, 3, numbers["clone"])]
        lines += [(_LOAD, 0, 0, _FIRST_ARGUMENT_AT), (_ANY_BIT, 0, 1, _NEW_USER), (_RETURN, 0, 0, _EPERM)]
    return [*lines, (_RETURN, 0, 0, _ALLOW)]


if __name__ == "__main__":
    refuse(*sys.argv[1].split(","))
    os.execvp(sys.argv[2], sys.argv[2:])
