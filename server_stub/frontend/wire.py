"""What a factory offers, from its JSON to the records that decisions are made of, and requests the other way.

An entry that makes no sense is left out and named: one factory's mistake costs its own entry and no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pilot_agent.model import Fact, FactStatus, Json
from server_stub.factory.reader import NAME
from server_stub.frontend.cycle import Request
from server_stub.frontend.jobs import Scalar
from server_stub.frontend.offers import NodeSeen, Offer, Outcomes
from server_stub.frontend.pressure import EntryState

MOST_ENTRIES = 10_000
MOST_NODES, MOST_FACTS, MOST_ATTRIBUTES = 16, 500, 500
LONGEST_TEXT = 8192
LARGEST = 1 << 50
MISSING_CORES, MISSING_MEMORY_MIB, MISSING_WALLTIME_SECONDS = 1, 2048, 86400
"""What an entry is taken for where its batch system decides and no node was seen yet."""


class WireError(ValueError):
    """An answer that is not what the two sides agreed upon; the message begins with the place."""


@dataclass(frozen=True, slots=True)
class EntryLimits:
    """The most pilots that the factory keeps at an entry, and in its queue; None where it does not say."""

    total: int | None = None
    idle: int | None = None


@dataclass(frozen=True, slots=True)
class Offered:
    """One factory's answer. The names of entries end with ``@`` and the factory's. ``encryption`` is the key for what
    only the factory may read; ``closed`` says of entries why they take nothing now, ``left_out`` of others why they
    could not be understood. The factory's batch system told the states ``observed_seconds`` before the answer."""

    factory: str
    offers: tuple[Offer, ...] = ()
    states: Mapping[str, EntryState] = field(default_factory=dict)
    limits: Mapping[str, EntryLimits] = field(default_factory=dict)
    held: Mapping[str, int] = field(default_factory=dict)
    closed: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    encryption: Mapping[str, Json] = field(default_factory=dict)
    observed_seconds: float = 0.0


def read_offered(document: Json, factory: str, vo: str = "") -> Offered:
    """The factory's answer to ``GET offers``, with the limits for a VO. Raises ``WireError`` for one that is none at
    all."""
    told = _mapping(document, "the answer")
    if told.get("factory") != factory:
        raise WireError(f"factory: {told.get('factory')!r} answered where {factory!r} was asked")
    entries = told.get("entries")
    if not isinstance(entries, list) or len(entries) > MOST_ENTRIES:
        raise WireError(f"entries: expected a list of at most {MOST_ENTRIES}")
    offers: dict[str, Offer] = {}
    states: dict[str, EntryState] = {}
    limits: dict[str, EntryLimits] = {}
    held: dict[str, int] = {}
    closed: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for place, entry in enumerate(entries):
        where = f"entries[{place}]"
        try:
            offer = _offer(_mapping(entry, where), factory, where)
            if offer.name in offers:
                raise WireError(f"{where}.name: {offer.name!r} comes twice")
            state = _mapping(entry.get("state") or {}, f"{where}.state")
            states[offer.name] = _state(state, f"{where}.state")
            limits[offer.name] = _limits(entry.get("limits") or {}, vo, f"{where}.limits")
        except WireError as error:
            left_out[where] = str(error)
            continue
        offers[offer.name] = offer
        held[offer.name] = _whole(state, "held", f"{where}.state")
        if offer.downtime:
            closed[offer.name] = str(entry["closed"])[:LONGEST_TEXT]
    encryption = told.get("encryption")
    answered, observed = (_number(told, key, "the answer", 0.0) for key in ("time", "observed"))
    age = answered - observed if told.get("observed") is not None else 0.0
    return Offered(
        factory, tuple(offers.values()), states, limits, held, closed, left_out,
        encryption if isinstance(encryption, dict) else {}, max(age, 0.0),
    )  # fmt: skip


def named_by_job(document: Json) -> dict[str, str]:
    """The factory's names of pilots by their batch jobs' numbers, of its answer to ``GET pilots``."""
    pilots = document.get("pilots") if isinstance(document, dict) else None
    found = {}
    for pilot in pilots if isinstance(pilots, list) else []:
        job = pilot.get("job") if isinstance(pilot, dict) else None
        if isinstance(job, dict) and isinstance(pilot.get("id"), str):
            found[f"{job.get('cluster')}.{job.get('process')}"] = pilot["id"]
    return found


def request_document(
    sequence: int,
    lifetime_seconds: int,
    requests: Iterable[Request],
    vo: str,
    credentials: Mapping[str, tuple[str, ...]],
) -> dict[str, Json]:
    """The body of ``PUT requests``: everything that is wanted of one factory. ``credentials`` are by the entries' whole
    names."""
    return {
        "sequence": sequence,
        "lifetime_seconds": lifetime_seconds,
        "requests": [
            {
                "entry": request.entry.partition("@")[0],
                "vo": vo,
                "queued": request.queued,
                "pilots": request.pilots,
                "remove": request.remove.value,
                "idle": list(request.idle),
                "credentials": list(credentials.get(request.entry, ())),
            }
            for request in requests
        ],
    }


def _offer(entry: Mapping[str, Json], factory: str, where: str) -> Offer:
    name = entry.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise WireError(f"{where}.name: {name!r} is no name of an entry")
    seen = _seen(entry.get("seen") or [], f"{where}.seen")
    outcomes = _mapping(entry.get("outcomes") or {}, f"{where}.outcomes")
    counts = [_whole(outcomes, key, f"{where}.outcomes") for key in ("pilots", "pilots_failed", "jobs", "jobs_failed")]
    return Offer(
        name=f"{name}@{factory}",
        site=_text(entry, "site", where),
        cores=_size(entry, "cores", where, seen, "cpu.usable", MISSING_CORES),
        memory_mib=_size(entry, "memory_mib", where, seen, "memory.usable_mib", MISSING_MEMORY_MIB),
        disk_mib=_whole(entry, "disk_mib", where),
        gpus=_whole(entry, "gpus", where),
        walltime_seconds=_whole(entry, "walltime_seconds", where) or MISSING_WALLTIME_SECONDS,
        vos=frozenset(map(str, _list(entry.get("vos") or [], f"{where}.vos"))),
        containers=(_text(entry, "containers", where) or "OPTIONAL").upper(),
        downtime=bool(entry.get("closed")),
        attributes=_attributes(_mapping(entry.get("attributes") or {}, f"{where}.attributes")),
        seen=seen,
        outcomes=Outcomes(*counts),
        benchmarks=_scores(_mapping(entry.get("benchmarks") or {}, f"{where}.benchmarks")),
        start_seconds=_number(entry, "start_seconds", where, 600.0),
    )


def _state(state: Mapping[str, Json], where: str) -> EntryState:
    return EntryState(
        queued=_whole(state, "queued", where),
        running=_whole(state, "running", where),
        oldest_queued_seconds=_number(state, "oldest_queued_seconds", where, 0.0),
    )


def _limits(told: Json, vo: str, where: str) -> EntryLimits:
    limits = _mapping(told, where)
    of_vo = _mapping(limits.get("per_vo") or {}, f"{where}.per_vo")
    total, idle, own = (
        None if given.get(key) is None else _whole(given, key, where)
        for given, key in ((limits, "total"), (limits, "idle"), (of_vo, vo))
    )
    return EntryLimits(min((most for most in (total, own) if most is not None), default=None), idle)


def _size(entry: Mapping[str, Json], key: str, where: str, seen: Iterable[NodeSeen], fact: str, missing: int) -> int:
    """A size that the entry fixes, else what the newest node there had."""
    size = _whole(entry, key, where)
    if size:
        return size
    for node in sorted(seen, key=lambda node: -node.at):
        found = node.facts.get(fact)
        if found is not None and found.known and isinstance(found.value, int | float) and 1 <= found.value <= LARGEST:
            return int(found.value)
    return missing


def _seen(nodes: Json, where: str) -> tuple[NodeSeen, ...]:
    found = []
    for place, node in enumerate(_list(nodes, where)[:MOST_NODES]):
        told = _mapping(node, f"{where}[{place}]")
        facts = _mapping(told.get("facts") or {}, f"{where}[{place}].facts")
        known = {name: _fact(name, fact) for name, fact in list(facts.items())[:MOST_FACTS]}
        found.append(NodeSeen(_number(told, "at", f"{where}[{place}]", 0.0), known))
    return tuple(found)


def _fact(name: str, fact: Json) -> Fact:
    if not isinstance(fact, dict):
        return Fact(name, fact)
    status = fact.get("status", "known")
    if status not in {known.value for known in FactStatus}:
        return Fact.unknown(name, "the factory does not say what it knows")
    return Fact(name, fact.get("value"), status=FactStatus(status))


def _attributes(told: Mapping[str, Json]) -> dict[str, Scalar]:
    return {
        name: value
        for name, value in list(told.items())[:MOST_ATTRIBUTES]
        if isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= LONGEST_TEXT)
    }


def _scores(told: Mapping[str, Json]) -> dict[str, float]:
    numbers = {name: value for name, value in list(told.items())[:MOST_ATTRIBUTES] if _is_number(value)}
    return {name: float(value) for name, value in numbers.items()}


def _mapping(value: Json, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise WireError(f"{where}: expected a mapping")
    return value


def _list(value: Json, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise WireError(f"{where}: expected a list")
    return value


def _text(told: Mapping[str, Json], key: str, where: str) -> str:
    value = told.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise WireError(f"{where}.{key}: expected a text")
    return value


def _whole(told: Mapping[str, Json], key: str, where: str) -> int:
    """A number that is not negative; 0 where there is none."""
    value = told.get(key)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST:
        raise WireError(f"{where}.{key}: expected a whole number, found {str(value)[:100]!r}")
    return value


def _number(told: Mapping[str, Json], key: str, where: str, default: float) -> float:
    value = told.get(key)
    if value is None:
        return default
    if not _is_number(value) or value < 0:
        raise WireError(f"{where}.{key}: expected a number, found {str(value)[:100]!r}")
    return float(value)


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST
