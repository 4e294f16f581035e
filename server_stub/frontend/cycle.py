"""One cycle of the frontend: a snapshot of everything in, one request for each entry out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from server_stub.frontend.groups import JobGroup, group_jobs
from server_stub.frontend.jobs import JobTable
from server_stub.frontend.matching import Matches, Policy, Vo, borders, match
from server_stub.frontend.offers import Offer
from server_stub.frontend.pressure import (
    EntryState,
    Limits,
    Totals,
    Tuning,
    limit_rate,
    missing_pilots,
    no_rise,
    pilots_to_allow,
    queued_to_keep,
    steadied,
)
from server_stub.frontend.removal import Patience, Removal, excess, removal
from server_stub.frontend.sharing import Shares, pilots_per_job, share_jobs
from server_stub.frontend.slots import SlotTable, batch_job
from server_stub.frontend.supply import supply

MOST_NAMED = 200
"""Idle pilots of one entry in one request."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator decides. Limits of an entry that is not in ``limits`` are ``default_limits``.

    Jobs are old after ``old_seconds``. The queue may take ``drain_seconds`` to be worked off by jobs that run one after
    the other. An entry whose queued pilots wait longer than ``stuck_seconds`` comes after all others. While queries
    fail for more than ``frozen_cycles`` cycles, no further pilots are asked for. Of more than ``most_groups`` groups
    those that waited longest are served first.
    """

    policy: Policy
    vo: Vo
    default_limits: Limits = field(default_factory=Limits)
    limits: Mapping[str, Limits] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    tuning: Tuning = field(default_factory=Tuning)
    patience: Patience = field(default_factory=Patience)
    old_seconds: int = 600
    drain_seconds: float = 3600.0
    stuck_seconds: float = 3600.0
    frozen_cycles: int = 10
    most_groups: int = 5000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was seen at ``now``. ``states`` has the batch systems' numbers of each entry (the pool's are counted from
    the slots); ``closed`` are access points that start no more jobs for now; ``missing`` names what could not be asked
    or answered in part. ``job_seconds`` is how long jobs usually run, where it is known."""

    now: float
    jobs: JobTable
    slots: SlotTable
    offers: Sequence[Offer]
    states: Mapping[str, EntryState] = field(default_factory=dict)
    closed: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()
    job_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What a factory is asked for at one entry: so many pilots in the queue, at most so many in all, and what to take
    back beyond that, of running pilots those that are named as ``idle``. Asking twice changes nothing."""

    entry: str
    queued: int = 0
    pilots: int = 0
    remove: Removal = Removal.NO
    idle: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Memory:
    """What one cycle leaves to the next: the last requests, and what they would have been without a limit on new pilots
    (``wishes``); for how many cycles entries have had an excess, and queries have failed; how many jobs waited for
    further pilots (``unserved``), and for how many cycles those have not become fewer."""

    requests: Mapping[str, Request] = field(default_factory=dict)
    wishes: Mapping[str, int] = field(default_factory=dict)
    excess_cycles: Mapping[str, int] = field(default_factory=dict)
    frozen_cycles: int = 0
    unserved: int = 0
    stalled_cycles: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """The requests, and where they come from: the groups, how they match (None while frozen), the jobs that each entry
    was given, and how many of each group's jobs the pool's own slots will take. ``frozen`` says why nothing was
    decided."""

    requests: tuple[Request, ...]
    memory: Memory
    groups: tuple[JobGroup, ...] = ()
    matches: Matches | None = None
    shares: Shares | None = None
    taken: tuple[int, ...] = ()
    states: Mapping[str, EntryState] = field(default_factory=dict)
    frozen: str = ""


def decide(snapshot: Snapshot, settings: Settings, memory: Memory) -> Decision:
    """The requests for every entry."""
    if snapshot.missing:
        return _frozen(snapshot, settings, memory)
    offers = snapshot.offers
    groups = group_jobs(
        snapshot.jobs,
        snapshot.now,
        borders(offers),
        old_seconds=settings.old_seconds,
        closed=snapshot.closed,
    )[: settings.most_groups]
    matches = match(groups, offers, settings.policy, settings.vo, snapshot.now)
    found = supply(
        groups,
        matches.allowed,
        snapshot.slots,
        [offer.name for offer in offers],
        snapshot.now,
        lead_seconds=float(np.median([offer.start_seconds for offer in offers])) if offers else 0.0,
        job_seconds=snapshot.job_seconds,
    )
    states = _states(snapshot, found.idle.tolist(), found.useless.tolist())
    limits = [_limits(offer, settings) for offer in offers]
    shares = _shares(groups, matches, found.taken, offers, states, limits, settings)
    unserved = sum(group.idle for group in groups) - int(found.taken.sum())
    requests, kept = _requests(offers, states, limits, shares, settings, memory, unserved)
    return Decision(
        _with_idle(requests, states, snapshot.slots),
        kept,
        tuple(groups),
        matches,
        shares,
        tuple(found.taken.tolist()),
        {offer.name: state for offer, state in zip(offers, states, strict=True)},
    )


def _with_idle(requests: Sequence[Request], states: Sequence[EntryState], slots: SlotTable) -> tuple[Request, ...]:
    """The requests with the idle pilots of those that take back such: where no idle slot is of use to any waiting job,
    since the next job may begin in any of them. Which batch job a slot belongs to its own pilot says, which may lie:
    one of which any slot is claimed is not idle, whatever another ad says of it."""
    useless = {
        request.entry
        for request, state in zip(requests, states, strict=True)
        if request.remove is Removal.WHOLE and state.useless_slots >= state.idle_slots > 0
    }
    if not useless:
        return tuple(requests)
    entry, busy = slots.pilot_states()
    working = {_job_at(slots, entry[pilot], pilot) for pilot in np.flatnonzero(busy).tolist()}
    named: dict[str, list[str]] = {name: [] for name in useless}
    for pilot in np.flatnonzero(~busy).tolist():
        name = slots.entries[entry[pilot]]
        fits = name in useless and slots.pilots[pilot] and len(named[name]) < MOST_NAMED
        if fits and _job_at(slots, entry[pilot], pilot) not in working:
            named[name].append(slots.pilots[pilot])
    return tuple(replace(request, idle=tuple(named.get(request.entry, ()))) for request in requests)


def _job_at(slots: SlotTable, entry: int, pilot: int) -> tuple[str, str]:
    """A pilot's batch job, and whose number that is; its own name where the number is not known."""
    name = slots.pilots[pilot]
    return slots.entries[entry].partition("@")[2], batch_job(name) or name


def _frozen(snapshot: Snapshot, settings: Settings, memory: Memory) -> Decision:
    """The last requests once more, without taking anything back: what was not seen is not gone."""
    cycles = memory.frozen_cycles + 1
    last = [memory.requests.get(offer.name, Request(offer.name)) for offer in snapshot.offers]
    requests = [replace(request, remove=Removal.NO) for request in last]
    if cycles > settings.frozen_cycles:
        requests = [replace(request, queued=0) for request in requests]
    kept = replace(memory, requests={request.entry: request for request in last}, frozen_cycles=cycles)
    return Decision(tuple(requests), kept, frozen=told_missing(snapshot.missing))


def told_missing(names: Sequence[str]) -> str:
    """Who did not answer, as a reason."""
    return "no answer, or only a part of it, from " + ", ".join(names)


def _states(snapshot: Snapshot, idle: Sequence[int], useless: Sequence[int]) -> list[EntryState]:
    """The batch systems' numbers and the pool's together."""
    names = [offer.name for offer in snapshot.offers]
    place = {name: number for number, name in enumerate(names)}
    rows = np.array([place.get(name, -1) for name in snapshot.slots.entries] or [-1])
    entry, busy = snapshot.slots.pilot_states()
    at = rows[entry]
    registered = np.bincount(at[at >= 0], minlength=len(names))
    working = np.bincount(at[(at >= 0) & busy], minlength=len(names))
    return [
        replace(
            snapshot.states.get(name, EntryState()),
            registered=int(registered[number]),
            busy=int(working[number]),
            idle_slots=idle[number],
            useless_slots=useless[number],
        )
        for number, name in enumerate(names)
    ]


def _limits(offer: Offer, settings: Settings) -> Limits:
    """An entry's limits; few pilots where most fail, so that it is noticed when they no longer do."""
    limits = settings.limits.get(offer.name, settings.default_limits)
    if offer.outcomes.failure_rate <= settings.tuning.failure_rate:
        return limits
    return replace(limits, most_pilots=min(limits.most_pilots, limits.probation_pilots), least_pilots=0)


def _shares(
    groups: Sequence[JobGroup],
    matches: Matches,
    taken: np.ndarray[tuple[int], np.dtype[np.int64]],
    offers: Sequence[Offer],
    states: Sequence[EntryState],
    limits: Sequence[Limits],
    settings: Settings,
) -> Shares:
    waiting = np.array([group.idle for group in groups], np.int64) - taken
    attenuation = settings.tuning.attenuation
    # No more than keeps the queue full: what one entry cannot take soon goes to the next.
    room = [
        min(limit.most_pilots - max(state.running, state.registered), limit.most_queued * attenuation) + state.starting
        for limit, state in zip(limits, states, strict=True)
    ]
    stuck = [state.queued > 0 and state.oldest_queued_seconds > settings.stuck_seconds for state in states]
    rank = np.where(np.array(stuck, np.bool_)[None, :], -np.inf, matches.rank)
    # In steps, so that the order does not change with every pilot that begins.
    quality = [
        (int(offer.start_seconds).bit_length(), round(offer.outcomes.failure_rate, 1), offer.name) for offer in offers
    ]
    order = np.array(sorted(range(len(offers)), key=quality.__getitem__), np.intp)
    parts = pilots_per_job(groups, offers, settings.drain_seconds)
    return share_jobs(groups, waiting, matches.allowed, rank, parts, np.maximum(np.array(room, float), 0.0), order)


def _requests(
    offers: Sequence[Offer],
    states: Sequence[EntryState],
    limits: Sequence[Limits],
    shares: Shares,
    settings: Settings,
    memory: Memory,
    unserved: int,
) -> tuple[tuple[Request, ...], Memory]:
    total = EntryState(
        queued=sum(state.queued for state in states),
        running=sum(max(state.running, state.registered) for state in states),
        idle_slots=sum(state.idle_slots for state in states),
    )
    closed = [offer.downtime for offer in offers]
    needs = list(zip(shares.pilots.tolist(), shares.old.tolist(), strict=True))
    last = [memory.wishes.get(offer.name, 0) for offer in offers]
    late = (shares.overdue + shares.old).tolist()
    missing = [
        0 if shut else missing_pilots(need, old, state, limit)
        for shut, (need, old), state, limit in zip(closed, needs, states, limits, strict=True)
    ]
    asked = [
        queued_to_keep(lacking, old, state, limit, total, settings.totals, settings.tuning, before=before)
        for lacking, old, state, limit, before in zip(missing, late, states, limits, last, strict=True)
    ]
    wishes = [steadied(ask, before) for ask, before in zip(asked, last, strict=True)]
    if unserved <= memory.unserved:
        wishes = no_rise(wishes, last, stalled=memory.stalled_cycles > settings.patience.remove_cycles)
    asked = limit_rate(wishes, [state.queued for state in states], limits, settings.totals.new_per_cycle)
    requests, cycles = [], {}
    for place, (offer, state, keep) in enumerate(zip(offers, states, asked, strict=True)):
        more = memory.excess_cycles.get(offer.name, 0) + 1
        cycles[offer.name] = count = more if excess(state, keep, settings.patience) else 0
        most = 0 if closed[place] else pilots_to_allow(missing[place], state, limits[place], settings.tuning)
        requests.append(Request(offer.name, keep, most, removal(state, keep, count, settings.patience)))
    names = [offer.name for offer in offers]
    return tuple(requests), Memory(
        dict(zip(names, requests, strict=True)),
        dict(zip(names, wishes, strict=True)),
        cycles,
        unserved=unserved,
        stalled_cycles=memory.stalled_cycles + 1 if 0 < memory.unserved <= unserved else 0,
    )
