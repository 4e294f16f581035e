"""Files written so that a reader never sees half of one, and read so that a huge one does no harm."""

from __future__ import annotations

import os

from pilot_agent.light import dumps


def write_atomically(path: str, content: bytes, *, mode: int = 0o600) -> None:
    """Replace ``path`` by ``content`` in one step. Raises ``OSError``, and then ``path`` is what it was.

    Not synced to the disk: no pilot outlives a crash of its node, and a sync costs milliseconds after every stage.
    """
    temporary = f"{path}.{os.getpid()}.new"
    descriptor = _open_new(temporary, mode)
    try:
        try:
            os.fchmod(descriptor, mode)
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def _open_new(path: str, mode: int) -> int:
    """A descriptor of a file that did not exist; what an earlier process of this number left there goes first."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags, mode)
    except FileExistsError:
        os.unlink(path)
        return os.open(path, flags, mode)


def write_json(path: str, data: object, *, mode: int = 0o600) -> None:
    """Replace ``path`` by ``data`` as JSON, in one step. Raises ``OSError``."""
    write_atomically(path, dumps(data, indent=1).encode() + b"\n", mode=mode)


def read_bounded(path: str, *, limit_bytes: int = 1 << 20) -> bytes:
    """The first ``limit_bytes`` of a file. Raises ``OSError``; never blocks on a FIFO or a device."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        chunks = []
        room = limit_bytes
        while room > 0 and (chunk := os.read(descriptor, min(room, 1 << 20))):
            chunks.append(chunk)
            room -= len(chunk)
        return b"".join(chunks)
    finally:
        os.close(descriptor)
