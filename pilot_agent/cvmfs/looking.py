"""What one repository of CVMFS says of itself right now, asked by a short-lived child because a mount may hang.

Called by the keeper as ``_cvmfs look PATH``; prints one JSON object. A mount is judged by listing it and by its
extended attributes, never by stat(2), which the kernel answers from its cache long after the client died. It starts
every minute for each repository, so that it imports next to nothing.
"""

from __future__ import annotations

import errno
import os

from pilot_agent.light import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEAD = (errno.ENOTCONN, errno.ECONNABORTED, errno.ECONNREFUSED)
"""What the kernel says of a mount whose client, or whose client's cache manager, has died."""
NUMBERS = {"revision": "revision", "nioerr": "io_errors", "timestamp_last_ioerr": "last_io_error", "expires": "expires"}
"""Extended attributes of a client that are whole numbers -> how the answer calls them."""
MOST_DIGITS = 15
MOST_BYTES = 4096


def main(arguments: list[str]) -> int:
    """Print what the repository whose directory is PATH says; 0 always: what is wrong is in the answer."""
    (path,) = arguments
    os.write(1, dumps(look(path)).encode())
    return 0


def look(path: str) -> dict[str, Any]:
    """``state`` is ok, broken (its client died), io_error, missing (nothing of this name is mounted) or unreadable,
    ``reason`` says what was found. What the client tells beside it: ``revision``, ``io_errors``, ``last_io_error``
    (seconds since 1970), ``expires`` (minutes until it renews its catalog), ``offline`` (it has no server)."""
    name = os.path.basename(path.rstrip("/"))
    found: dict[str, Any] = {"state": "ok", "reason": ""}
    try:
        # With its slash at the end autofs mounts it.
        with os.scandir(f"{path.rstrip('/')}/") as entries:
            empty = next(entries, None) is None
        told = _attributes(path)
    except OSError as error:
        return {"state": _state(error.errno), "reason": f"{error.strerror} ({path})"}
    if told.get("fqrn", name) != name:
        return {"state": "missing", "reason": f"what is mounted at {path} calls itself {told['fqrn'][:200]}"}
    if empty and "fqrn" not in told:
        return {"state": "missing", "reason": f"{path} is an empty directory: nothing is mounted there"}
    for attribute, key in NUMBERS.items():
        digits = told.get(attribute, "").strip()
        if digits.removeprefix("-").isdecimal() and digits.isascii() and len(digits) <= MOST_DIGITS:
            found[key] = int(digits)
    if "host" in told:
        found["offline"] = not told["host"].strip()
    return found


def _attributes(path: str) -> dict[str, str]:
    """What the client tells. Raises ``OSError`` only where the mount does not work: clients may hide attributes, and
    what is exported by NFS has none."""
    told = {}
    for name in ("fqrn", "host", *NUMBERS):
        try:
            told[name] = os.getxattr(path, f"user.{name}")[:MOST_BYTES].decode("utf-8", "replace")
        except OSError as error:
            if error.errno in (*DEAD, errno.EIO):
                raise
            if error.errno == errno.EOPNOTSUPP:
                break
    return told


def _state(number: int | None) -> str:
    if number in DEAD:
        return "broken"
    if number == errno.EIO:
        return "io_error"
    return "missing" if number in (errno.ENOENT, errno.ENOTDIR) else "unreadable"
