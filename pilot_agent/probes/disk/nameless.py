"""Files for trials on the node's disks that leave nothing behind, whenever the process that made them is killed."""

from __future__ import annotations

import contextlib
import os


def make_nameless(directory: str, mode: int = 0o600) -> int:
    """The descriptor, for writing, of a new file without a name. Raises ``OSError``.

    Where the file system cannot make one (open(2), O_TMPFILE), its name is removed at once.
    """
    with contextlib.suppress(OSError):
        return os.open(directory, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, mode)
    path = os.path.join(directory, f".pilot-agent-{os.getpid()}-{os.urandom(6).hex()}")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    os.unlink(path)
    return descriptor
