"""What a file is by its first bytes: images begin with one of two marks, everything else is no image."""

from __future__ import annotations

import os

from pilot_agent.containers.store.errors import CONFIG, StoreError

# Where the runtime itself looks: SIF has a launch script of 32 bytes first; squashfs has its mark at once.
MARKS = ((32, b"SIF_MAGIC"), (0, b"hsqs"))
HEAD_BYTES = 41


def is_image(head: bytes) -> bool:
    """Whether a file that begins like this is a SIF or squashfs file."""
    return any(head[offset : offset + len(mark)] == mark for offset, mark in MARKS)


def no_image(reference: str, head: bytes, content_type: str = "") -> StoreError:
    """The error for something else, with what it looks like."""
    start = head[:40].decode("utf-8", "replace")
    shown = "".join(character if character.isprintable() else "." for character in start)
    told = f" of type {content_type[:60]}" if content_type else ""
    message = f"what came from {reference} is no SIF or squashfs file: it begins with {shown!r}{told}"
    hint = "the VO corrects the address, or publishes the image there again"
    return StoreError("image.format", CONFIG, message, hint, temporary=False)


def checked_file(path: str, reference: str) -> int:
    """The size of an image file in bytes, once it is wholly on the disk. Raises ``StoreError`` and ``OSError``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        head = os.read(descriptor, HEAD_BYTES)
        if not is_image(head):
            raise no_image(reference, head)
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
