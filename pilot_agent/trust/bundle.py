"""What a pilot believes before it has asked anybody: the root of trust, and what was newest when it was submitted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pilot_agent.files import read_bounded
from pilot_agent.light import dumps, loads
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.trust.local import writable_by_others

if TYPE_CHECKING:
    from pilot_agent.trust.repository import SignedRepository

SCHEMA = "pilot-agent/trust/1"
LIMIT_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Bundle:
    """Signed metadata of three roles of The Update Framework, each as the bytes of its JSON. Nothing older than this
    ``timestamp`` and ``snapshot`` is believed, also by a pilot that never saw the repository before."""

    root: bytes
    timestamp: bytes
    snapshot: bytes


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom a pilot believes, and where it asks: the path of its bundle (empty: nobody) and the mirrors."""

    bundle: str = ""
    mirrors: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Mapping[str, Json]) -> Self:
        """As the configuration's ``artifacts`` says it."""
        settings = config["artifacts"]
        # Relative to the start directory, into which a batch system puts a job's files.
        return cls(os.path.abspath(settings["bundle"]) if settings["bundle"] else "", tuple(settings["mirrors"]))

    def repository(self, scratch: str, environment: Mapping[str, str], end: float) -> SignedRepository:
        """What is signed, in a new directory below ``scratch``; ``end`` is of the monotonic clock. Raises
        ``PilotError`` where nobody is to be believed, or others can change who is."""
        from pilot_agent.trust.repository import SignedRepository

        if not self.bundle:
            message = "signed artifacts are wanted, and artifacts.bundle does not say whose signatures to believe"
            hint = "the factory writes one with packaging/artifacts.py bundle, and sends it along with the pilot"
            raise PilotError(Failure(FailureKind.CONFIG, "artifact.bundle", message, hint))
        if reason := writable_by_others(self.bundle):
            message = f"artifacts.bundle is not believed: {reason}"
            hint = (
                f"`chmod go-w {self.bundle}`, make it root's or this account's, and keep it where only they may rename"
            )
            raise PilotError(Failure(FailureKind.CORRUPTION, "artifact.bundle", message, hint))
        own = os.path.join(scratch, f"signed-{os.urandom(6).hex()}")
        try:
            os.mkdir(own, 0o700)
        except OSError as error:
            message = f"what is fetched cannot be kept: {error.strerror}: {error.filename}"
            hint = "the site frees space in the file system of the pilot's scratch directory"
            raise PilotError(Failure(FailureKind.NODE_RESOURCE, "disk.full", message, hint, retry=True)) from error
        return SignedRepository(read_bundle(self.bundle), self.mirrors, own, environment, end)


def read_bundle(path: str) -> Bundle:
    """The bundle in the file that ``packaging/artifacts.py bundle`` wrote. Raises ``PilotError``."""
    hint = "the factory writes it with packaging/artifacts.py bundle, and puts it into the payload"
    try:
        told: Any = loads(read_bounded(path, limit_bytes=LIMIT_BYTES))
    except OSError as error:
        message = f"{path}, which says whose signatures to believe, cannot be read: {error.strerror}"
        raise PilotError(Failure(FailureKind.CORRUPTION, "artifact.bundle", message, hint)) from error
    except ValueError as error:
        message = f"{path} does not say whose signatures to believe: {error}"
        raise PilotError(Failure(FailureKind.CORRUPTION, "artifact.bundle", message, hint)) from error
    roles = ("root", "timestamp", "snapshot")
    if not isinstance(told, dict) or told.get("schema") != SCHEMA or not all(name in told for name in roles):
        message = f"{path} is no bundle of trust: {SCHEMA} with {', '.join(roles)} is needed"
        raise PilotError(Failure(FailureKind.CORRUPTION, "artifact.bundle", message, hint))
    return Bundle(*(dumps(told[name]).encode() for name in roles))
