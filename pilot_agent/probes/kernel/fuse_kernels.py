"""Which kernels have FUSE in user namespaces."""

from __future__ import annotations

import re


def mounts_for_all(kernel: str) -> bool | None:
    """Whether FUSE may be mounted in user namespaces by the kernel's version: Linux 4.18 on, or EL7's 3.10.0-1127 on;
    None for a version of another form."""
    match = re.match(r"(\d{1,4})\.(\d{1,4})(?:\.0-(\d{1,6})\.)?", kernel)
    if match is None:
        return None
    major, minor = int(match[1]), int(match[2])
    if ".el7" in kernel and (major, minor) == (3, 10) and match[3]:
        return int(match[3]) >= 1127
    return (major, minor) >= (4, 18)
