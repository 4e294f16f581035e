"""The text of ``glidein_config``: one ``KEY value`` a line, the last line of a key counts.

Scripts write to the file as they like; what is read here is always a mapping, and what is written always a file that
every reader understands.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

LINE_CHARACTERS = 4096
"""Longer values are cut, as the shell functions do it."""
FILE_BYTES = 1 << 20
MOST_KEYS = 4096

_KEY = re.compile(r"[!-~]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def parse(text: str) -> dict[str, str]:
    """Key -> value. What is no line of a key is left out: comments, a first word with other than printable ASCII."""
    found: dict[str, str] = {}
    for line in text.split("\n"):
        key, _, value = line.partition(" ")
        if key.startswith("#") or not _KEY.fullmatch(key):
            continue
        if key not in found and len(found) >= MOST_KEYS:
            continue
        # Where it counts: at its last line.
        found.pop(key, None)
        found[key] = clean(value)
    return found


def clean(value: str) -> str:
    """A value that fits one line: control characters become blanks, and it is cut at ``LINE_CHARACTERS``."""
    return _CONTROL.sub(" ", value)[:LINE_CHARACTERS]


def text_of(values: Mapping[str, str]) -> str:
    """The lines. Raises ``ValueError`` for a key that no reader would find."""
    for key in values:
        if key.startswith("#") or not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} cannot be a key of glidein_config")
    return "".join(f"{key} {clean(value)}\n" for key, value in values.items())


def moved(values: Mapping[str, str], source: str, target: str) -> dict[str, str]:
    """The values with paths of one directory as paths of the other. What only has its name in the middle, as
    ``/cvmfs/srv/data`` has ``/srv``, is another path."""
    whole = re.compile(rf"(?<![\w.+~%/-]){re.escape(source)}(?![\w.+~%-])")
    return {key: whole.sub(lambda _: target, value) for key, value in values.items()}


def read(path: str) -> dict[str, str] | None:
    """What the file says; None where it is gone, no regular file, or larger than any should be."""
    try:
        with open(path, "rb", opener=plain_file) as file:
            content = file.read(FILE_BYTES + 1)
    except OSError:
        return None
    return parse(content.decode("utf-8", "replace")) if len(content) <= FILE_BYTES else None


def plain_file(path: str, flags: int) -> int:
    """An opener that follows no link and waits for no pipe. Raises ``OSError``."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def write(path: str, values: Mapping[str, str]) -> None:
    """Replace the file in one step. Raises ``OSError``, and ``ValueError`` as ``text_of``."""
    content = text_of(values).encode("utf-8", "replace")
    new = f"{path}.adapter"
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644), "wb") as file:
        file.write(content)
    os.replace(new, path)


@contextmanager
def locked(path: str) -> Iterator[None]:
    """While nobody changes the file through the shell functions. Raises ``OSError``."""
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def settle(path: str, last: Mapping[str, str], fixed: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """What the file says after somebody had it, written back as every reader understands it; and what was wrong.

    ``last`` is what it said before, for a file that was destroyed; the ``fixed`` keys keep their values: all scripts
    find the others' files by them. Raises ``OSError``.
    """
    problems = []
    with locked(path):
        values = read(path)
        if values is None:
            problems.append("glidein_config was removed, replaced by something else or made huge; it is as before")
            values = dict(last)
            if os.path.isdir(path) and not os.path.islink(path):
                os.rename(path, f"{path}.broken-{os.urandom(4).hex()}")
        changed = [key for key, value in fixed.items() if values.get(key) != value]
        if changed:
            problems.append(f"{', '.join(changed)} of glidein_config cannot be changed; the value is as before")
        values |= fixed
        write(path, values)
    return values, problems
