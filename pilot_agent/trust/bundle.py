"""What a pilot believes before it has asked anybody: the root of trust, and what was newest when it was submitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pilot_agent.files import read_bounded
from pilot_agent.light import dumps, loads
from pilot_agent.model import Failure, FailureKind, PilotError

SCHEMA = "pilot-agent/trust/1"
LIMIT_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Bundle:
    """Signed metadata of three roles of The Update Framework, each as the bytes of its JSON. Nothing older than this
    ``timestamp`` and ``snapshot`` is believed, also by a pilot that never saw the repository before."""

    root: bytes
    timestamp: bytes
    snapshot: bytes


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
