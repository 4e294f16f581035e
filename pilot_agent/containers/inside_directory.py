"""Files of an unpacked image as a program inside would find them: links lead nowhere but into the image."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MOST_LINKS = 40


def read_inside(root: str, path: str, limit_bytes: int) -> bytes | None:
    """The first ``limit_bytes`` of the regular file ``path`` of the image ``root``; None when it has none."""
    return _walk(root, path, lambda name, mode, directory: _content(name, directory, limit_bytes, mode))


def exists_inside(root: str, path: str) -> bool:
    """Whether the image ``root`` has anything at ``path``; links are followed."""
    return _walk(root, path, lambda name, mode, directory: b"") is not None


def _walk(root: str, path: str, found: Callable[[str, int, int], bytes | None]) -> bytes | None:
    """What ``found`` says of name, mode and open directory at the end of the path; None when there is nothing.

    Absolute links and ``..`` are taken as inside the image, as chroot(2) would; a link that changes meanwhile leads
    nowhere else either, as every step opens one name relative to an open directory and follows nothing.
    """
    parts, left = _split(path), MOST_LINKS
    above: list[int] = []
    try:
        above.append(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        while parts:
            name = parts.pop(0)
            if name == "..":
                if len(above) > 1:
                    os.close(above.pop())
                continue
            mode = os.lstat(name, dir_fd=above[-1]).st_mode
            if stat.S_ISLNK(mode):
                left -= 1
                if left < 0:
                    return None
                target = os.readlink(name, dir_fd=above[-1])
                while target.startswith("/") and len(above) > 1:
                    os.close(above.pop())
                parts[:0] = _split(target)
            elif parts:
                above.append(os.open(name, OPEN_DIRECTORY, dir_fd=above[-1]))
            else:
                return found(name, mode, above[-1])
        return found(".", stat.S_IFDIR, above[-1])  # a link to a directory that is open already
    except OSError:
        return None
    finally:
        for descriptor in above:
            os.close(descriptor)


def _content(name: str, directory: int, limit: int, mode: int) -> bytes | None:
    if not stat.S_ISREG(mode):
        return None
    # Not blocking: what was a file a moment ago may be a pipe now.
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        return file.read(limit)


def _split(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
