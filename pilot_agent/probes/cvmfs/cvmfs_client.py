"""What a CVMFS client tells of itself: extended attributes of its mounts, its version, its cache.

The names are those of the client's ``magic_xattr.cc`` and of the CernVM-FS documentation, "Getting information via
extended attributes".
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pilot_agent.model import Json
from pilot_agent.probes.kernel.namespaces import errno_name
from pilot_agent.probes.parsing import parse_integer

ATTRIBUTES = (
    *("version", "revision", "root_hash", "proxy", "host", "nioerr", "timestamp_last_ioerr", "expires"),
    *("timeout", "timeout_direct", "uptime", "pid"),
)
LOG = "logbuffer"
DEAD = ("ENOTCONN", "ECONNABORTED", "ECONNREFUSED")
"""What the kernel says of a mount whose client, or whose client's cache manager, has died."""

_MOST_TEXT = 300
# A client renews its catalog when it expires, or says at once when it cannot; so long after that it is stuck.
_STALE_MINUTES = 10
_VERSION = re.compile(r"\b([0-9]{1,4}(?:\.[0-9]{1,6}){1,3})\b", re.ASCII)
_BREADCRUMB = re.compile(r"[0-9a-f]{40,}(?:-[a-z0-9]+)?T([0-9]{1,12})(?:R[0-9]+)?\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class ClientState:
    """What the client of one mount tells; None where it does not tell.

    ``proxy`` is DIRECT without one, ``last_io_error`` in seconds since 1970, ``expires_minutes`` the time until the
    catalog is renewed, ``pid`` the client's in its own PID namespace, ``log`` its last line after an error.
    """

    version: str | None = None
    revision: int | None = None
    root_hash: str | None = None
    proxy: str | None = None
    host: str | None = None
    io_errors: int | None = None
    last_io_error: int | None = None
    expires_minutes: int | None = None
    timeout_seconds: int | None = None
    timeout_direct_seconds: int | None = None
    uptime_minutes: int | None = None
    pid: int | None = None
    log: str | None = None

    @property
    def stale(self) -> bool | None:
        """True when the catalog should have been renewed long ago; None when the client tells no time."""
        return None if self.expires_minutes is None else self.expires_minutes < -_STALE_MINUTES


NOTHING_TOLD = ClientState()


def read_attributes(path: str, names: Sequence[str], found: dict[str, str]) -> None:
    """Put the attributes of these names into ``found``. Raises ``OSError`` only where the mount does not work: clients
    may hide attributes, and what is exported by NFS or bound from elsewhere has none."""
    for name in names:
        try:
            found[name] = os.getxattr(path, f"user.{name}")[:4096].decode("utf-8", "replace")
        except OSError as error:
            if errno_name(error.errno) in (*DEAD, "EIO"):
                raise
            if errno_name(error.errno) == "EOPNOTSUPP":
                return


def client_state(attributes: Json) -> ClientState:
    """What these attributes (name -> text) tell; what has not the expected form is left out."""
    told = attributes if isinstance(attributes, Mapping) else {}
    texts = {name: text.strip() for name, text in told.items() if isinstance(text, str)}

    def number(name: str) -> int | None:
        return parse_integer(texts.get(name))

    def text(name: str) -> str | None:
        return _shown(texts.get(name, ""))

    expires = texts.get("expires", "")
    minutes = parse_integer(expires.removeprefix("-"))
    log = texts.get(LOG, "").splitlines()
    return ClientState(
        version=text("version"),
        revision=number("revision"),
        root_hash=text("root_hash"),
        proxy=text("proxy"),
        host=text("host"),
        io_errors=number("nioerr"),
        last_io_error=number("timestamp_last_ioerr") or None,
        expires_minutes=-minutes if minutes is not None and expires.startswith("-") else minutes,
        timeout_seconds=number("timeout"),
        timeout_direct_seconds=number("timeout_direct"),
        uptime_minutes=number("uptime"),
        pid=number("pid"),
        log=_shown(log[-1] if log else ""),
    )


def _shown(text: str) -> str | None:
    if not text:
        return None
    from pilot_agent.probes.redaction import redact  # late: see probes.recording

    return redact(text)[:_MOST_TEXT] or None


def parse_client_version(text: str) -> str | None:
    """The version that ``cvmfs2 --version`` tells; None when it tells none."""
    found = _VERSION.search(text)
    return found[1] if found else None


def parse_breadcrumb(text: str) -> int | None:
    """When the catalog in a client's cache was published, seconds since 1970, from its ``cvmfschecksum`` file: hash,
    ``T``, time, and in newer clients ``R`` and revision."""
    found = _BREADCRUMB.fullmatch(text)
    return parse_integer(found[1]) if found else None
