"""An image with nothing of its own: an empty directory into which the node's own programs are bound.

It costs nothing and is always there; what a runtime needs of the kernel and of its configuration to run a job, it
needs for this one too.
"""

from __future__ import annotations

import os

from pilot_agent.containers.command import Bind

_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_EMPTY = ("dev", "etc", "home", "proc", "root", "run", "srv", "sys", "tmp", "var/tmp")


def make_image(path: str) -> str:
    """Make it below ``path``, which it returns. Raises ``OSError`` when there is no room."""
    for name in _EMPTY:
        os.makedirs(os.path.join(path, name), mode=0o755, exist_ok=True)
    for name, link in places().items():
        inside = os.path.join(path, name)
        if link is None:
            os.makedirs(inside, mode=0o755, exist_ok=True)
        elif not os.path.lexists(inside):
            os.symlink(link, inside)
    with open(os.path.join(path, "etc/passwd"), "w", encoding="ascii") as file:
        file.write("root:x:0:0:root:/root:/bin/sh\n")
    return path


def places() -> dict[str, str | None]:
    """What an image needs in its root directory for the node's programs: names of directories (None), and of symbolic
    links with where they lead."""
    found: dict[str, str | None] = {}
    for directory in _PROGRAMS:
        if _is_link(directory):
            found[directory.strip("/")] = os.readlink(directory).removeprefix("/")
        elif os.path.isdir(directory):
            found[directory.strip("/")] = None
    return found


def binds() -> tuple[Bind, ...]:
    """The node's directories of programs, as they are to be bound into the image."""
    return tuple(Bind(path, path, read_only=True) for path in _PROGRAMS if os.path.isdir(path) and not _is_link(path))


def _is_link(path: str) -> bool:
    return os.path.islink(path)
