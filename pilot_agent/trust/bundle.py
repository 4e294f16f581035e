"""What a pilot believes before it has asked anybody: the root of trust, and what was newest when it was submitted."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pilot_agent.files import read_bounded
from pilot_agent.light import dumps, loads
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.trust.bundled import LIMIT_BYTES, TRUST, bundled
from pilot_agent.trust.clock import behind, moment_of
from pilot_agent.trust.local import writable_by_others

if TYPE_CHECKING:
    from pilot_agent.trust.repository import SignedRepository

SCHEMA = "pilot-agent/trust/1"
HINT = "the factory writes it with packaging/artifacts.py bundle, and adds it with packaging/add_bundle.py"


@dataclass(frozen=True, slots=True)
class Bundle:
    """Signed metadata of three roles of The Update Framework, each as the bytes of its JSON. Nothing older than this
    ``timestamp`` and ``snapshot`` is believed, also by a pilot that never saw the repository before. ``made`` is when
    that was, in seconds since 1970, where it is known."""

    root: bytes
    timestamp: bytes
    snapshot: bytes
    made: float | None = None


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom a pilot believes, and where it asks: the path of its bundle (empty: the one that its payload carries), the
    mirrors, and the ways there (``SignedRepository``)."""

    bundle: str = ""
    mirrors: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Mapping[str, Json]) -> Self:
        """As the configuration's ``artifacts`` says it."""
        settings = config["artifacts"]
        # Relative to the start directory, into which a batch system puts a job's files.
        bundle = os.path.abspath(settings["bundle"]) if settings["bundle"] else ""
        return cls(bundle, tuple(settings["mirrors"]), tuple(settings["proxies"]))

    def repository(self, scratch: str, environment: Mapping[str, str], end: float) -> SignedRepository:
        """What is signed, in a new directory below ``scratch``; ``end`` is of the monotonic clock. Raises
        ``PilotError`` where nobody is to be believed, or others can change who is."""
        from pilot_agent.trust.repository import SignedRepository

        self._require_proxies()
        bundle = self._believed()
        if failure := behind(bundle.made):
            raise PilotError(failure)
        own = os.path.join(scratch, f"signed-{os.urandom(6).hex()}")
        try:
            os.mkdir(own, 0o700)
        except OSError as error:
            message = f"what is fetched cannot be kept: {error.strerror}: {error.filename}"
            hint = "the site frees space in the file system of the pilot's scratch directory"
            raise PilotError(Failure(FailureKind.NODE_RESOURCE, "disk.full", message, hint, retry=True)) from error
        return SignedRepository(bundle, self.mirrors, own, environment, end, self.proxies)

    def _require_proxies(self) -> None:
        for place, proxy in enumerate(self.proxies):
            if not re.fullmatch(r"direct|http://[A-Za-z0-9._\[\]:-]+:[0-9]{1,5}/?", proxy):
                message = f"artifacts.proxies[{place}] is {proxy!r}; http://HOST:PORT or `direct` is needed"
                hint = "whoever wrote the configuration corrects the address"
                raise PilotError(Failure(FailureKind.CONFIG, "config.invalid", message, hint))

    def _believed(self) -> Bundle:
        """Whom to believe. Raises ``PilotError``."""
        if not self.bundle:
            content = bundled(TRUST)
            if content is not None:
                return parse_bundle(content, "the bundle in this payload")
            message = "signed artifacts are wanted, and nothing says whose signatures to believe"
            hint = "the factory puts a bundle into the payload with packaging/add_bundle.py, or sends one along and "
            hint += "names it in artifacts.bundle"
            raise PilotError(Failure(FailureKind.CONFIG, "artifact.bundle", message, hint))
        if reason := writable_by_others(self.bundle):
            message = f"artifacts.bundle is not believed: {reason}"
            hint = (
                f"`chmod go-w {self.bundle}`, make it root's or this account's, and keep it where only they may rename"
            )
            raise PilotError(Failure(FailureKind.CORRUPTION, "artifact.bundle", message, hint))
        return read_bundle(self.bundle)


def read_bundle(path: str) -> Bundle:
    """The bundle in the file that ``packaging/artifacts.py bundle`` wrote. Raises ``PilotError``."""
    try:
        content = read_bounded(path, limit_bytes=LIMIT_BYTES)
    except OSError as error:
        message = f"{path}, which says whose signatures to believe, cannot be read: {error.strerror}"
        raise PilotError(Failure(FailureKind.CORRUPTION, "artifact.bundle", message, HINT)) from error
    return parse_bundle(content, path)


def parse_bundle(content: bytes, name: str) -> Bundle:
    """The bundle in these bytes, which messages call ``name``. Raises ``PilotError``."""
    try:
        told: Any = loads(content)
    except ValueError as error:
        message = f"{name} does not say whose signatures to believe: {error}"
        raise PilotError(Failure(FailureKind.CORRUPTION, "artifact.bundle", message, HINT)) from error
    roles = ("root", "timestamp", "snapshot")
    if not isinstance(told, dict) or told.get("schema") != SCHEMA or not all(role in told for role in roles):
        message = f"{name} is no bundle of trust: {SCHEMA} with {', '.join(roles)} is needed"
        raise PilotError(Failure(FailureKind.CORRUPTION, "artifact.bundle", message, HINT))
    try:
        made = moment_of(told["made"]) if "made" in told else None
    except (ValueError, TypeError) as error:
        message = f"{name} does not say when it was made: {told['made']!r}"
        raise PilotError(Failure(FailureKind.CORRUPTION, "artifact.bundle", message[:300], HINT)) from error
    root, timestamp, snapshot = (dumps(told[role]).encode() for role in roles)
    return Bundle(root, timestamp, snapshot, made)
