"""Load the modules that the testbed needs, in order; insmod is not everywhere. Its argument is their directory."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

NEEDED = ("overlay", "llc", "stp", "crc-ccitt", "ipv6", "bridge", "veth", "fuse")
FINIT_MODULE = 313
"""The number of finit_module(2) on x86-64, the only machine that User-Mode Linux is built for."""


def load(path: Path) -> None:
    """Load one module. Raises ``OSError``."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if libc.syscall(FINIT_MODULE, descriptor, b"", 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    for name in NEEDED:
        for found in Path(sys.argv[1]).rglob(f"{name}.ko"):
            load(found)
