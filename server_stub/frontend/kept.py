"""What the frontend keeps on disk, so that a restart goes on where the last cycle ended."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from pilot_agent.codec import CodecError, from_json, to_json
from pilot_agent.files import read_bounded, write_json
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from server_stub.frontend.cycle import Memory
from server_stub.frontend.wire import Offered, WireError, read_offered

MEMORY_LIMIT_BYTES = 64 << 20
OFFERS_LIMIT_BYTES = 128 << 20


@dataclass(frozen=True, slots=True)
class Kept:
    """What one cycle leaves to the next one: the decision's own memory, when each access point last answered, and the
    number of the last set of requests."""

    memory: Memory = field(default_factory=Memory)
    heard: Mapping[str, float] = field(default_factory=dict)
    sequence: int = 0
    cycle: int = 0


@dataclass(frozen=True, slots=True)
class KeptOffers:
    """What a factory last offered, and when it came."""

    received: float
    offered: Offered


class State:
    """The frontend's directory. Every file in it is replaced as a whole; one that is damaged is as if it was not there,
    which is logged."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    @contextmanager
    def mine(self) -> Iterator[None]:
        """Nobody else works with the directory meanwhile. Raises ``PilotError`` (state.taken, state.unusable)."""
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            os.chmod(self._directory, 0o700)
            descriptor = os.open(self._path("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            message = f"the state directory {self._directory} cannot be used: {error.strerror}"
            hint = "let it be this account's own, or name another one as state; the VO's operator must act"
            raise PilotError(Failure(FailureKind.CONFIG, "state.unusable", message, hint)) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                message = f"another frontend works with the state directory {self._directory}"
                hint = "end it, or give this one a name and a state of its own; the VO's operator must act"
                raise PilotError(Failure(FailureKind.CONFIG, "state.taken", message, hint)) from error
            yield
        finally:
            os.close(descriptor)

    def load(self) -> Kept:
        """What the last cycle left."""
        document = self._read("memory.json", MEMORY_LIMIT_BYTES)
        try:
            return Kept() if document is None else from_json(Kept, document)
        except CodecError as error:
            self._damaged("memory.json", error)
            return Kept()

    def save(self, kept: Kept) -> None:
        """Keep what this cycle leaves. Raises ``OSError``."""
        write_json(self._path("memory.json"), to_json(kept))

    def offers(self, factory: str, vo: str) -> KeptOffers | None:
        """What a factory last offered, with its limits for the VO."""
        name = _offers_file(factory)
        document = self._read(name, OFFERS_LIMIT_BYTES)
        if document is None:
            return None
        try:
            return KeptOffers(float(document["received"]), read_offered(document["document"], factory, vo))
        except (WireError, KeyError, TypeError, ValueError) as error:
            self._damaged(name, error)
            return None

    def keep_offers(self, factory: str, document: Json, now: float) -> None:
        """Keep a factory's answer. Raises ``OSError``."""
        write_json(self._path(_offers_file(factory)), {"received": now, "document": document})

    def tell(self, status: Json) -> None:
        """Replace the status that people and programs look at. Raises ``OSError``."""
        write_json(self._path("status.json"), status)

    def told(self) -> Json:
        """The status; None where there is none."""
        return self._read("status.json", OFFERS_LIMIT_BYTES)

    def _read(self, name: str, limit_bytes: int) -> Json:
        try:
            return json.loads(read_bounded(self._path(name), limit_bytes=limit_bytes))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self._damaged(name, error)
            return None

    def _damaged(self, name: str, error: Exception) -> None:
        log = structlog.get_logger("server_stub.frontend")
        log.error("state.damaged", file=self._path(name), message=f"{type(error).__name__}: {error}"[:500])

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)


def _offers_file(factory: str) -> str:
    # Names may differ in their case only, which not every file system sees.
    return f"offers-{hashlib.sha256(factory.encode()).hexdigest()[:16]}.json"
