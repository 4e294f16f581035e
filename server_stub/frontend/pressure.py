"""How many pilots an entry should have in its queue, and at most in all: GlideinWMS's formulas, with what they lack.

The formulas are those of ``glideinFrontendElement.py`` (``compute_glidein_min_idle``, ``compute_glidein_max_run``) of
GlideinWMS 3.10, so that an operator's limits keep their meaning. What is different is said where it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most of something, and from where on less is asked for."""

    most: int
    curb: int

    def full(self, count: int) -> bool:
        """Whether nothing more may be asked for."""
        return count >= self.most


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one entry; the defaults are GlideinWMS's (``running_glideins_per_entry``, ``idle_glideins_per_entry``,
    ``idle_vms_per_entry``). ``probation_pilots`` is how many an entry gets whose pilots or jobs mostly fail."""

    least_pilots: int = 0
    most_pilots: int = 10000
    most_queued: int = 100
    reserve: int = 5
    idle_slots: Ceiling = Ceiling(100, 5)
    new_per_cycle: int = 100
    probation_pilots: int = 2


@dataclass(frozen=True, slots=True)
class Totals:
    """Of all entries together (``running_glideins_total``, ``idle_vms_total``), and of one cycle."""

    pilots: Ceiling = Ceiling(100000, 90000)
    idle_slots: Ceiling = Ceiling(1000, 200)
    new_per_cycle: int = 500


@dataclass(frozen=True, slots=True)
class Tuning:
    """``attenuation`` is the part of what is missing that is asked for at once (``ramp_up_attenuation``),
    ``relative_to_queue`` how much larger than what jobs need an entry may become. An entry with a failure rate above
    ``failure_rate`` is on probation."""

    attenuation: float = 3.0
    relative_to_queue: float = 1.15
    failure_rate: float = 0.5


@dataclass(frozen=True, slots=True)
class EntryState:
    """The pilots of one entry.

    ``queued`` and ``running`` are the batch system's numbers, ``oldest_queued_seconds`` how long the first of the
    queued ones waits. The pool's: ``registered`` pilots, those among them that are ``busy``, ``idle_slots``, and those
    that no waiting job can use (``useless_slots``).
    """

    queued: int = 0
    running: int = 0
    oldest_queued_seconds: float = 0.0
    registered: int = 0
    busy: int = 0
    idle_slots: int = 0
    useless_slots: int = 0

    @property
    def starting(self) -> int:
        """Pilots that run and have not joined the pool yet; soon jobs begin in them."""
        return max(self.running - self.registered, 0)

    @property
    def pilots(self) -> int:
        """All, wherever they are counted."""
        return self.queued + max(self.running, self.registered)


def missing_pilots(need: float, old: float, entry: EntryState, limits: Limits) -> int:
    """How many pilots an entry lacks, those in its queue left aside.

    ``need`` is how many pilots the jobs that were given to the entry fill, beyond what the pool's slots will take;
    ``old`` how many those need that waited long elsewhere. Different from GlideinWMS: pilots that are starting count as
    supply (there they are asked for a second time until they have joined the pool). A part of a pilot is a pilot.
    """
    warm = limits.least_pilots - entry.pilots + entry.queued
    return max(math.ceil(need + old - 1e-9) - entry.starting, warm, 0)


def queued_to_keep(
    missing: int,
    old: float,
    entry: EntryState,
    limits: Limits,
    total: EntryState,
    totals: Totals,
    tuning: Tuning,
    *,
    before: int = 0,
) -> int:
    """How many pilots the entry's queue should hold, where so many are ``missing``, and old jobs need ``old`` of them.
    GlideinWMS's ``min_idle``::

        x = min(effective_idle, max - count for every limit)
        x = int(x / ramp_up_attenuation) + min(effective_oldidle // 3, reserve_idle)
        x = min(x, max_idle); halved for each exceeded curb; at least 1

    Different: the old ones are divided upwards (a single old job counts), and keep a request from falling below what
    was asked for ``before``, but do not make it rise again; the result is never more than what is missing; pilots that
    are queued already and missing are kept.
    """
    if missing == 0 or _full(entry, limits, total, totals):
        return 0
    room = min(
        limits.most_pilots - entry.pilots + entry.queued,
        limits.idle_slots.most - entry.idle_slots,
        totals.pilots.most - total.pilots + entry.queued,
        totals.idle_slots.most - total.idle_slots,
    )
    asked = int(min(missing, room) / tuning.attenuation)
    reserve = min(math.ceil(max(old - entry.starting, 0) / 3), limits.reserve)
    asked = max(asked, min(asked + reserve, before)) if before else asked + reserve
    asked = min(asked, limits.most_queued, room, missing)
    asked >>= _curbs(entry, limits, total, totals)
    return max(asked, min(entry.queued, missing), 1)


def steadied(asked: int, before: int) -> int:
    """``asked`` where it differs enough from what was asked for ``before``: a request that goes up by one and down by
    one as jobs end here and there keeps nobody waiting, and makes pilots that come too late. The first pilot is always
    asked for, and less always is."""
    return before if 0 < before < asked <= before + max(1, before // 10) else asked


def _full(entry: EntryState, limits: Limits, total: EntryState, totals: Totals) -> bool:
    return (
        entry.pilots - entry.queued >= limits.most_pilots
        or limits.idle_slots.full(entry.idle_slots)
        or totals.pilots.full(total.pilots - entry.queued)
        or totals.idle_slots.full(total.idle_slots)
    )


def _curbs(entry: EntryState, limits: Limits, total: EntryState, totals: Totals) -> int:
    """How many curbs are exceeded."""
    return sum(
        (
            entry.idle_slots > limits.idle_slots.curb,
            total.pilots > totals.pilots.curb,
            total.idle_slots > totals.idle_slots.curb,
        )
    )


def pilots_to_allow(missing: int, entry: EntryState, limits: Limits, tuning: Tuning) -> int:
    """The most pilots that the entry should have in all. GlideinWMS's ``max_run``::

        int((max(prop_mc.Idle - idle_glideins, 0) + real) * relative_to_queue + 1)   where jobs wait, else int(real)

    ``real`` are the pilots that run jobs. Different: those that are starting belong to it.
    """
    real = entry.busy + entry.starting
    wanted = int((missing + real) * tuning.relative_to_queue + 1) if missing > 0 else real
    return min(max(wanted, limits.least_pilots), limits.most_pilots)


def no_rise(asked: Sequence[int], before: Sequence[int], *, stalled: bool = False) -> list[int]:
    """``asked``, in sum not more than ``before``, for when no more jobs wait than the last time: pilots move from one
    entry to another only as far as the one gives them up. Without this a few jobs that are shared out anew every time
    make pilots here and there.

    Where nothing was asked for there is nothing to move. Where the jobs do not become fewer (``stalled``), the entries
    that ask for more come first, and what is far more than before is asked for after all.
    """
    most = sum(before)
    if most == 0 or sum(asked) <= most or (stalled and sum(asked) > 2 * most):
        return list(asked)
    rises = [max(ask - had, 0) for ask, had in zip(asked, before, strict=True)]
    kept = [ask - rise for ask, rise in zip(asked, rises, strict=True)]
    if stalled:
        rises = _evenly(rises, most)
        kept = _evenly(kept, most - sum(rises))
    else:
        rises = _evenly(rises, most - sum(kept))
    return [keep + rise for keep, rise in zip(kept, rises, strict=True)]


def limit_rate(asked: Sequence[int], queued: Sequence[int], limits: Sequence[Limits], most: int) -> list[int]:
    """``asked`` made smaller where too many pilots would be new in one cycle, at an entry or (``most``) in all.

    What is left of ``most`` is dealt out evenly, so that a large entry does not leave a small one without any.
    """
    new = [min(max(ask - have, 0), limit.new_per_cycle) for ask, have, limit in zip(asked, queued, limits, strict=True)]
    if sum(new) > most:
        new = _evenly(new, most)
    return [min(ask, have + more) for ask, have, more in zip(asked, queued, new, strict=True)]


def _evenly(wanted: Sequence[int], most: int) -> list[int]:
    given = [0] * len(wanted)
    left = most
    open_places = sorted(range(len(wanted)), key=lambda place: (wanted[place], place))
    while open_places:
        place = open_places[0]
        each = left // len(open_places)
        if wanted[place] > each:
            for number, other in enumerate(open_places):
                given[other] = each + (number < left - each * len(open_places))
            break
        given[place] = wanted[place]
        left -= wanted[place]
        open_places.pop(0)
    return given
