"""Entries as this factory offers them to a frontend: what a pilot there would be, how those before it fared, and how
many this frontend has there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pilot_agent.codec import to_json
from pilot_agent.model import Json
from server_stub.entries import Factory
from server_stub.factory.demand import Held, Key, unfinished
from server_stub.factory.entry import Entry
from server_stub.factory.experience import Experience, NodeFacts, Outcomes
from server_stub.factory.frontends import Frontend
from server_stub.factory.scores import at, is_number
from server_stub.factory.store import Store

UNKNOWN_START_SECONDS = 600.0
UNKNOWN_WALLTIME_SECONDS = 86400
UNKNOWN_MEMORY_MIB = 2048


@dataclass(frozen=True, slots=True)
class State:
    """This frontend's pilots at an entry, as the batch system tells them; the oldest of those in the queue waits for
    ``oldest_queued_seconds``."""

    queued: int = 0
    running: int = 0
    held: int = 0
    oldest_queued_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class OfferedLimits:
    """The most pilots that the entry takes in all and in its queue; ``per_vo`` of this frontend's VOs that have a limit
    of their own there."""

    total: int
    idle: int
    per_minute: int
    per_vo: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OfferedEntry:
    """One entry. ``vos`` are those of the frontend's VOs for which it may ask here. Sizes are those of a whole pilot;
    where the batch system decides they are those last seen. ``closed`` is why nothing is submitted now, empty while
    something may be. ``start_seconds`` is the median from a pilot's submission to its start."""

    name: str
    site: str
    type: str
    vos: list[str]
    cores: int
    memory_mib: int
    disk_mib: int
    gpus: int
    walltime_seconds: int
    containers: str
    closed: str
    attributes: dict[str, str | int | float | bool]
    outcomes: Outcomes
    benchmarks: dict[str, float]
    start_seconds: float
    seen: list[NodeFacts]
    limits: OfferedLimits
    state: State


@dataclass(frozen=True, slots=True)
class Encryption:
    """The key with which a frontend seals what only this factory may read: its name, and the public half (X25519, 32
    bytes in base64)."""

    id: str
    x25519: str


@dataclass(frozen=True, slots=True)
class Offers:
    """All that a factory offers to one frontend at one moment (epoch seconds). ``observed`` is when the batch system
    last answered: what ``state`` says is as old."""

    factory: str
    time: float
    observed: float
    limits: dict[str, int]
    entries: list[OfferedEntry]
    encryption: Encryption


def offers(
    factory: Factory,
    store: Store,
    frontend: Frontend,
    experience: Experience,
    *,
    encryption: Encryption,
    observed: float,
    now: float,
) -> Offers:
    """What this frontend may ask for."""
    mine = _by_entry(unfinished(store, frontend=frontend.name))
    shut = store.closed_entries()
    found = []
    for entry in factory.entries:
        vos = frontend.vos_at(entry.vos)
        if not vos or not frontend.may_use(entry.name):
            continue
        closed = shut.get(entry.name, "") or entry.closed(now)
        found.append(_offer(factory, entry, vos, closed, experience, _state(mine.get(entry.name, ()), now)))
    limits = frontend.limits
    most = {"total": limits.total, "idle": limits.idle, "held": limits.held, "per_minute": limits.per_minute}
    return Offers(factory.name, now, observed, most, found, encryption)


def offers_json(told: Offers, experience: Experience) -> bytes:
    """The offers as JSON."""
    entries = ",".join(
        _joined(replace(entry, seen=[]), "seen", experience.seen.get(entry.name, "[]")) for entry in told.entries
    )
    return _joined(replace(told, entries=[]), "entries", f"[{entries}]").encode()


def _joined(record: Offers | OfferedEntry, name: str, text: str) -> str:
    """A record as JSON, in which the value of one name is this text."""
    document = to_json(record)
    del document[name]
    return f'{_compact(document).removesuffix("}")},"{name}":{text}}}'


def _compact(document: Json) -> str:
    return json.dumps(document, separators=(",", ":"))


def _by_entry(held: Mapping[Key, Held]) -> dict[str, list[Held]]:
    found: dict[str, list[Held]] = {}
    for (entry, _frontend, _vo), one in held.items():
        found.setdefault(entry, []).append(one)
    return found


def _state(parts: list[Held] | tuple[()], now: float) -> State:
    oldest = min((part.oldest for part in parts if part.oldest is not None), default=now)
    return State(
        queued=sum(part.waiting for part in parts),
        running=sum(part.running for part in parts),
        held=sum(part.held for part in parts),
        oldest_queued_seconds=max(now - oldest, 0.0),
    )


def _offer(
    factory: Factory, entry: Entry, vos: tuple[str, ...], closed: str, experience: Experience, state: State
) -> OfferedEntry:
    seen = experience.nodes.get(entry.name, [])
    limits = entry.limits
    return OfferedEntry(
        name=entry.name,
        site=entry.site,
        type=entry.type,
        vos=list(vos),
        cores=entry.cores or _seen_number(seen, "cpu.usable", 1),
        memory_mib=entry.memory_mib or _seen_number(seen, "memory.usable_mib", UNKNOWN_MEMORY_MIB),
        disk_mib=_seen_number(seen, "disk.workspace_free_mib", 0),
        gpus=entry.gpus,
        walltime_seconds=entry.walltime_seconds or UNKNOWN_WALLTIME_SECONDS,
        containers=_word(factory, entry),
        closed=closed,
        attributes=_attributes(factory, entry),
        outcomes=experience.outcomes.get(entry.name, Outcomes()),
        benchmarks=dict(experience.benchmarks.get(entry.name, {})),
        start_seconds=experience.start_seconds.get(entry.name, UNKNOWN_START_SECONDS),
        seen=seen,
        limits=OfferedLimits(
            limits.total,
            limits.idle,
            limits.per_minute,
            {vo: most for vo, most in limits.per_vo.items() if vo in vos},
        ),
        state=state,
    )


def _seen_number(seen: list[NodeFacts], name: str, otherwise: int) -> int:
    """The median of a fact over the nodes that were seen, rounded down to what the smaller half of them has."""
    told = [at(node.facts.get(name), "value") for node in seen]
    numbers = sorted(number for number in told if is_number(number) and number >= 0)
    return int(numbers[(len(numbers) - 1) // 2]) if numbers else otherwise


def _word(factory: Factory, entry: Entry) -> str:
    """What the site demands of containers, as a pilot there would read it."""
    given = at(entry.pilot, "site", "containers") or at(factory.pilot, "site", "containers")
    return str(given or "optional").upper()


def _attributes(factory: Factory, entry: Entry) -> dict[str, str | int | float | bool]:
    """Attributes that the configuration gives to the machine ads of the entry's pilots."""
    joined: dict[str, Json] = {}
    for document in (factory.pilot, entry.pilot):
        joined |= at(document, "startd", "attributes") or {}
    return {name: value for name, value in joined.items() if isinstance(value, str | int | float | bool)}
