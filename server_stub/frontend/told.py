"""What a cycle tells of itself: to the log, to the status, to the figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pilot_agent.model import Json
from server_stub.frontend.cycle import Decision, Snapshot
from server_stub.frontend.pressure import EntryState
from server_stub.frontend.wire import Offered

SCHEMA = "pilot-frontend/status/1"


@dataclass(frozen=True, slots=True)
class EntryTold:
    """One entry in one cycle: the jobs that were given to it and the pilots that these fill, what is there, what was
    asked for, and ``why`` it was not more."""

    entry: str
    factory: str
    site: str
    jobs: int
    demand: int
    queued: int
    running: int
    held: int
    registered: int
    busy: int
    idle_slots: int
    useless_slots: int
    asked_queued: int
    asked_pilots: int
    remove: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class FactoryTold:
    """One factory in one cycle: whether its offers came just now (``fresh``), earlier (``kept``) or not at all
    (``none``), how old they are, and what went wrong."""

    name: str
    url: str
    offers: str
    age_seconds: float
    entries: int = 0
    problem: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CycleTold:
    """One whole cycle. ``seconds`` says where the time went; ``unmatched_jobs`` are idle ones that no entry suits,
    ``unserved_jobs`` those that no slot in the pool will take."""

    frontend: str
    cycle: int
    at: float
    sequence: int
    seconds: Mapping[str, float]
    frozen: str
    frozen_cycles: int
    missing: Mapping[str, str]
    closed: Mapping[str, str]
    given_up: tuple[str, ...]
    idle_jobs: int
    unmatched_jobs: int
    unserved_jobs: int
    groups: int
    slots: int
    idle_slots: int
    factories: tuple[FactoryTold, ...]
    entries: tuple[EntryTold, ...]
    schema: str = SCHEMA
    cycle_seconds: float = 60.0
    pid: int = 0


def entries_told(
    decision: Decision,
    snapshot: Snapshot,
    offered: Sequence[Offered],
    answers: Mapping[str, Json],
) -> tuple[EntryTold, ...]:
    """A row for each entry; ``answers`` is what each factory said to the requests."""
    held = {name: count for one in offered for name, count in one.held.items()}
    closed = {name: reason for one in offered for name, reason in one.closed.items()}
    limited = {name: why for factory, answer in answers.items() for name, why in _limited(factory, answer).items()}
    refused = decision.matches.refused if decision.matches is not None else {}
    jobs = decision.shares.jobs.sum(axis=0).tolist() if decision.shares is not None else []
    pilots = decision.shares.pilots.tolist() if decision.shares is not None else []
    rows = []
    for place, request in enumerate(decision.requests):
        state = decision.states.get(request.entry) or snapshot.states.get(request.entry, EntryState())
        entry, _, factory = request.entry.partition("@")
        reasons = [closed.get(request.entry) or refused.get(request.entry, ""), limited.get(request.entry, "")]
        rows.append(
            EntryTold(
                entry, factory, snapshot.offers[place].site,
                int(jobs[place]) if jobs else 0, math.ceil(pilots[place] - 1e-9) if pilots else 0,
                state.queued, state.running, held.get(request.entry, 0), state.registered, state.busy,
                state.idle_slots, state.useless_slots, request.queued, request.pilots, request.remove.value,
                "; ".join(filter(None, reasons)),
            )
        )  # fmt: skip
    return tuple(rows)


def unmatched(decision: Decision) -> int:
    """How many idle jobs no entry may be asked for."""
    if decision.matches is None:
        return 0
    allowed = decision.matches.allowed
    return sum(group.idle for place, group in enumerate(decision.groups) if not allowed[place].any())


def _limited(factory: str, answer: Json) -> dict[str, str]:
    """What the factory did not take as it was asked for."""
    found: dict[str, str] = {}
    if not isinstance(answer, dict):
        return found
    for key, word in (("accepted", "limited_by"), ("refused", "why")):
        rows = answer.get(key)
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, dict) and row.get(word):
                said = "limited by" if key == "accepted" else "refused:"
                found[f"{row.get('entry')}@{factory}"] = f"{said} {row[word]}"
    return found
