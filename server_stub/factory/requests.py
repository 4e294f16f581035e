"""What a frontend asks for, as it arrives: judged whole, and against what this frontend may have.

A set of requests says what its frontend wants at all entries; sending it twice changes nothing, and an older one is
refused, so that a late copy never undoes a newer decision.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server_stub.entries import Factory
from server_stub.factory.bodies import first_problem, schema_of
from server_stub.factory.entry import Entry
from server_stub.factory.frontends import Frontend
from server_stub.frontend.removal import Removal

BODY_LIMIT_BYTES = 8 << 20
MOST_REQUESTS = 20_000
MOST_PILOTS = 1_000_000
MOST_IDLE_NAMED = 200
MOST_CREDENTIALS = 16
LEAST_LIFETIME_SECONDS = 60
MOST_LIFETIME_SECONDS = 86400
AHEAD_SECONDS = 300.0
LARGEST_SEQUENCE = 2**63 - 1

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
CredentialId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$")]
PilotName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,32}$")]
Count = Annotated[int, Field(ge=0, le=MOST_PILOTS)]


class Request(BaseModel):
    """What is wanted at one entry for one VO: so many pilots in the queue, at most so many in all, what to take back of
    those beyond that, and which credentials they get. ``idle`` names running pilots that have no job: only those are
    taken back by ``WHOLE``."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    entry: Name
    vo: Name
    queued: Count = 0
    pilots: Count = 0
    remove: Removal = Removal.NO
    idle: Annotated[list[PilotName], Field(max_length=MOST_IDLE_NAMED)] = []
    credentials: Annotated[list[CredentialId], Field(max_length=MOST_CREDENTIALS)] = []

    @property
    def key(self) -> tuple[str, str]:
        """Entry and VO."""
        return self.entry, self.vo


class RequestSet(BaseModel):
    """All that a frontend wants. ``sequence`` is the moment of the decision, epoch microseconds."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    sequence: Annotated[int, Field(ge=1, le=LARGEST_SEQUENCE)]
    lifetime_seconds: Annotated[int, Field(ge=LEAST_LIFETIME_SECONDS, le=MOST_LIFETIME_SECONDS)]
    requests: Annotated[list[Request], Field(max_length=MOST_REQUESTS)]


class SetError(ValueError):
    """A body that is no set of requests; the message names the place."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request as far as limits allow it at best; ``limited_by`` is the limit that made it smaller, empty without."""

    entry: str
    vo: str
    queued: int
    pilots: int
    limited_by: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """A request of which nothing is done, and why."""

    entry: str
    vo: str
    why: str


@dataclass(frozen=True, slots=True)
class SetAnswer:
    """What became of a set. Without a newer one it counts until ``expires`` (epoch seconds); after that nothing more is
    submitted, and nothing taken back."""

    sequence: int
    expires: float
    accepted: list[Accepted]
    refused: list[Refused]


def read_set(body: bytes, *, known: int = 0, now: float | None = None) -> RequestSet:
    """The set of requests in a body; the one after that which is ``known`` is never too early, whatever a clock said
    then. Raises ``SetError``."""
    try:
        given = RequestSet.model_validate_json(body)
    except ValidationError as error:
        raise SetError(first_problem(error)) from error
    seen: set[tuple[str, str]] = set()
    for place, request in enumerate(given.requests):
        if request.key in seen:
            raise SetError(f"requests[{place}]: {request.entry} is asked for a second time for {request.vo}")
        seen.add(request.key)
    moment = time.time() if now is None else now
    if given.sequence > max((moment + AHEAD_SECONDS) * 1e6, known + 1):
        raise SetError("sequence: it lies in the future; it is the moment of the decision in epoch microseconds")
    return given


def digest(body: bytes) -> str:
    """What tells one body from another."""
    return hashlib.sha256(body).hexdigest()


def judge_set(given: RequestSet, frontend: Frontend, factory: Factory, *, now: float | None = None) -> SetAnswer:
    """What of a set is accepted, and how much of it can be given at best."""
    entries = {entry.name: entry for entry in factory.entries}
    accepted: list[Accepted] = []
    refused: list[Refused] = []
    for request in given.requests:
        why = refusal_of(request.entry, request.vo, frontend, entries)
        if why:
            refused.append(Refused(request.entry, request.vo, why))
        else:
            accepted.append(_within(request, frontend, entries[request.entry]))
    moment = time.time() if now is None else now
    return SetAnswer(given.sequence, moment + given.lifetime_seconds, accepted, refused)


def refusal_of(entry: str, vo: str, frontend: Frontend, entries: Mapping[str, Entry]) -> str:
    """Why a frontend gets nothing at an entry for a VO; empty when it may. An entry that it may not use is to it as one
    that does not exist."""
    known = entries.get(entry)
    if known is None or not frontend.may_use(entry):
        return f"there is no entry {entry!r} for {frontend.name}"
    if vo not in frontend.vos:
        return f"{frontend.name} may not ask for {vo}; it may for {', '.join(frontend.vos)}"
    if known.vos and vo not in known.vos:
        return f"the entry takes no pilots of {vo}"
    return ""


def _within(request: Request, frontend: Frontend, entry: Entry) -> Accepted:
    whole = [("limits.total", entry.limits.total), ("frontend.limits.total", frontend.limits.total)]
    if request.vo in entry.limits.per_vo:
        whole.append((f"limits.per_vo.{request.vo}", entry.limits.per_vo[request.vo]))
    waiting = [("limits.idle", entry.limits.idle), ("frontend.limits.idle", frontend.limits.idle), *whole]
    pilots, of_pilots = _smaller(request.pilots, whole)
    queued, of_queued = _smaller(request.queued, waiting)
    return Accepted(request.entry, request.vo, queued, pilots, of_queued or of_pilots)


def _smaller(asked: int, bounds: Sequence[tuple[str, int]]) -> tuple[int, str]:
    """The smallest of what is asked and the bounds, and the name of the bound that decided."""
    name, most = min(bounds, key=lambda bound: bound[1])
    return (most, name) if most < asked else (asked, "")


def set_schema() -> dict[str, Any]:
    """The JSON Schema of a set of requests, complete in itself."""
    return schema_of(RequestSet)
