"""How many pilots to submit and to take back for each request: a pure decision over what the store and the batch system
say at one moment.

As in GlideinWMS (``keepIdleGlideins``, ``clean_glidein_queue``) a request names how many pilots its queue should hold
and how many there may be in all, and limits of entry, VO and frontend bound it. Different: where room is short it goes
to whoever has fewest there, one pilot at a time, instead of to whoever comes first; what limits a request is told; and
nothing is decided on an answer of the batch system that is old.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from server_stub.factory.demand import Held, Key, Wanted
from server_stub.factory.entry import Entry
from server_stub.factory.frontends import Frontend
from server_stub.factory.requests import refusal_of
from server_stub.frontend.removal import Removal

STALE_SECONDS = 180.0
MOST_SUBMITTED = 500
"""Of one decision; the next one goes on."""
MOST_REMOVED = 5
"""Of one entry, frontend and VO in one decision: a mistake is seen before it has taken everything."""
MOST_REMOVED_IN_ALL = 100
PACE = "the factory's pace"

Bucket = tuple[str, ...]
"""What a limit counts: its name, then entry, frontend or VO."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that a decision rests on. ``observed`` is when the batch system last answered in full, None where it
    never did. ``closed`` says of entries why nothing is submitted; ``paused`` of entries and frontends (key without
    VO) why not for a while. ``recent`` are the pilots submitted within the last minute, by entry and frontend;
    ``leaving`` those whose removal was asked for and that are still counted in ``held``. Times are epoch seconds."""

    now: float
    observed: float | None
    entries: Mapping[str, Entry]
    frontends: Mapping[str, Frontend]
    wanted: Sequence[Wanted]
    held: Mapping[Key, Held]
    closed: Mapping[str, str] = field(default_factory=dict)
    paused: Mapping[tuple[str, str], str] = field(default_factory=dict)
    recent: Mapping[tuple[str, str], int] = field(default_factory=dict)
    leaving: Mapping[Key, Held] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Take:
    """Pilots to take back: so many of the ``queued``, or so many of the named ``running`` ones; with ``unsubmitted``
    only those that the site has not got yet."""

    key: Key
    queued: int = 0
    running: int = 0
    names: tuple[str, ...] = ()
    unsubmitted: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do: pilots to submit, in the order in which to do it, what to take back, and why a request gets less than
    it asks for (every request has a reason here, empty where nothing limits it)."""

    submit: tuple[tuple[Key, int], ...] = ()
    remove: tuple[Take, ...] = ()
    limited_by: Mapping[Key, str] = field(default_factory=dict)


def decide(situation: Situation, *, most: int = MOST_SUBMITTED) -> Plan:
    """What to do now."""
    counted = [wanted for wanted in situation.wanted if wanted.expires > situation.now]
    expired = {wanted.key: "expired" for wanted in situation.wanted if wanted.expires <= situation.now}
    if situation.observed is None or not 0 <= situation.now - situation.observed <= STALE_SECONDS:
        why = "the batch system has not answered lately"
        return Plan(limited_by={**expired, **{wanted.key: why for wanted in counted}})
    allowed: list[Wanted] = []
    reasons: dict[Key, str] = dict(expired)
    for wanted in counted:
        reasons[wanted.key] = _refusal(situation, wanted)
        if not reasons[wanted.key]:
            allowed.append(wanted)
    ledger = _ledger(situation)
    submitted, limits = _grant(situation, allowed, ledger, most)
    return Plan(tuple(submitted.items()), _take_back(situation, counted), {**reasons, **limits})


def _refusal(situation: Situation, wanted: Wanted) -> str:
    """Why nothing is submitted for a request, whatever room there is."""
    frontend = situation.frontends.get(wanted.frontend)
    if frontend is None:
        return "not a frontend of this factory any more"
    refused = refusal_of(wanted.entry, wanted.vo, frontend, situation.entries)
    if refused:
        return refused
    if situation.closed.get(wanted.entry):
        return f"closed: {situation.closed[wanted.entry]}"
    return situation.paused.get((wanted.entry, wanted.frontend), "") or situation.paused.get((wanted.entry, ""), "")


class _Ledger:
    """How much room each limit has left."""

    def __init__(self, room: dict[Bucket, int]) -> None:
        self._room = room

    def full(self, buckets: Iterable[Bucket]) -> str:
        """The name of the first limit without room; empty while each has some."""
        return next((_named(bucket) for bucket in buckets if self._room.get(bucket, 0) <= 0), "")

    def use(self, buckets: Iterable[Bucket]) -> None:
        """One pilot more counts."""
        for bucket in buckets:
            self._room[bucket] -= 1


def _named(bucket: Bucket) -> str:
    return f"limits.per_vo.{bucket[2]}" if bucket[0] == "limits.per_vo" else bucket[0]


def _buckets(wanted: Wanted, entry: Entry) -> tuple[Bucket, ...]:
    """The limits under which a pilot of a request falls."""
    per_vo: tuple[Bucket, ...] = ()
    if wanted.vo in entry.limits.per_vo:
        per_vo = (("limits.per_vo", wanted.entry, wanted.vo),)
    of_entry = ("limits.total", "limits.idle")
    of_frontend = ("frontend.limits.held", "frontend.limits.total", "frontend.limits.idle")
    return (
        ("limits.held", wanted.entry, wanted.frontend),
        *((name, wanted.entry) for name in of_entry),
        *per_vo,
        *((name, wanted.frontend) for name in of_frontend),
        ("limits.per_minute", wanted.entry),
        ("frontend.limits.per_minute", wanted.frontend),
    )


def _ledger(situation: Situation) -> _Ledger:
    room: dict[Bucket, int] = {}
    for name, entry in situation.entries.items():
        limits = entry.limits
        room[("limits.total", name)] = limits.total
        room[("limits.idle", name)] = limits.idle
        # Of each frontend by itself: what holds one's pilots may be its own credentials.
        room |= {("limits.held", name, whose): limits.held for whose in situation.frontends}
        room[("limits.per_minute", name)] = limits.per_minute
        room |= {("limits.per_vo", name, vo): most for vo, most in limits.per_vo.items()}
    for name, frontend in situation.frontends.items():
        for limit in ("total", "idle", "held", "per_minute"):
            room[(f"frontend.limits.{limit}", name)] = getattr(frontend.limits, limit)
    used: Counter[Bucket] = Counter()
    for (entry_name, whose, vo), held in situation.held.items():
        used[("limits.per_vo", entry_name, vo)] += held.all
        used[("limits.held", entry_name, whose)] += held.held
        used[("frontend.limits.held", whose)] += held.held
        for prefix, name in (("limits", entry_name), ("frontend.limits", whose)):
            used[(f"{prefix}.total", name)] += held.all
            used[(f"{prefix}.idle", name)] += held.waiting
    for (entry_name, whose), number in situation.recent.items():
        used[("limits.per_minute", entry_name)] += number
        used[("frontend.limits.per_minute", whose)] += number
    # A limit of held pilots is no room that new pilots fill: it is open or shut.
    return _Ledger({bucket: _left(bucket, most, used[bucket]) for bucket, most in room.items()})


def _left(bucket: Bucket, most: int, used: int) -> int:
    if bucket[0].endswith(".held"):
        return 1 << 60 if used < most else 0
    return most - used


def _grant(
    situation: Situation, wanted: Sequence[Wanted], ledger: _Ledger, most: int
) -> tuple[dict[Key, int], dict[Key, str]]:
    """Deal out room one pilot at a time, always to the frontend that has fewest at the entry, and within it to the VO
    that has fewest; how many each request gets, in the order of its first, and what limits those that lack some."""
    own: Counter[Key] = Counter({key: held.all for key, held in situation.held.items()})
    whole: Counter[tuple[str, str]] = Counter()
    for (entry, frontend, _vo), number in own.items():
        whole[(entry, frontend)] += number
    lacking = {one.key: number for one in wanted if (number := _lacking(situation, one)) > 0}
    buckets = {one.key: _buckets(one, situation.entries[one.entry]) for one in wanted if one.key in lacking}
    granted: dict[Key, int] = {}
    limits: dict[Key, str] = {}
    turns = [(whole[key[:2]], own[key], key) for key in lacking]
    heapq.heapify(turns)
    while turns:
        before, mine, key = heapq.heappop(turns)
        if (before, mine) != (whole[key[:2]], own[key]):  # others of this frontend got some meanwhile
            heapq.heappush(turns, (whole[key[:2]], own[key], key))
            continue
        reason = ledger.full(buckets[key]) or (PACE if most <= 0 else "")
        if reason:
            limits[key] = reason
            continue
        ledger.use(buckets[key])
        most -= 1
        granted[key] = granted.get(key, 0) + 1
        own[key] += 1
        whole[key[:2]] += 1
        lacking[key] -= 1
        if lacking[key]:
            heapq.heappush(turns, (whole[key[:2]], own[key], key))
    return granted, limits


def _lacking(situation: Situation, wanted: Wanted) -> int:
    """How many pilots a request lacks in the queue, within what it allows in all."""
    held = situation.held.get(wanted.key, Held())
    return min(wanted.queued - held.waiting, wanted.pilots - held.waiting - held.running)


def _take_back(situation: Situation, wanted: Iterable[Wanted]) -> tuple[Take, ...]:
    """What to take back, the queued ones first; those that run only once no queued one is too many. Nothing at an entry
    that is closed: its frontend asks for less because of that, and wants its pilots when it is open again."""
    found: list[Take] = []
    left = MOST_REMOVED_IN_ALL
    for one in wanted:
        if one.remove is Removal.NO or one.entry not in situation.entries or situation.closed.get(one.entry):
            continue
        take = _taken(one, situation.held.get(one.key, Held()), situation.leaving.get(one.key, Held()), left)
        if take is not None:
            found.append(take)
            left -= take.queued + take.running
    return tuple(found)


def _taken(wanted: Wanted, held: Held, leaving: Held, left: int) -> Take | None:
    waiting, running = held.waiting - leaving.waiting, held.running - leaving.running
    most = min(MOST_REMOVED, left)
    queued = min(waiting - wanted.queued, most)
    if queued > 0:
        return Take(wanted.key, queued=queued, unsubmitted=wanted.remove is Removal.WAIT)
    surplus = min(waiting + running - wanted.pilots, running, len(wanted.idle), most)
    if wanted.remove is Removal.WHOLE and surplus > 0:
        return Take(wanted.key, running=surplus, names=wanted.idle)
    return None
