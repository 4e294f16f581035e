"""Which entry is to serve how many of the waiting jobs.

Each job is given to one entry, so one job never asks for a pilot at every entry that it matches; only when it has
waited long is it counted at others too. A policy's rank comes first. Entries of one rank share evenly, in whole
pilots; what cannot be split goes to the quicker and more reliable ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from server_stub.frontend.groups import JobGroup
from server_stub.frontend.jobs import Integers
from server_stub.frontend.offers import Offer

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shares:
    """For each group (row) and entry (column) the ``jobs`` given to it. For each entry: the ``pilots`` that these need,
    and how many of those the old jobs among them need (``overdue``); the pilots that ``old`` jobs which other entries
    were given would need here; and the most that it could be given (``room``)."""

    jobs: npt.NDArray[np.int32]
    pilots: Numbers
    overdue: Numbers
    old: Numbers
    room: Numbers


def pilots_per_job(groups: Sequence[JobGroup], offers: Sequence[Offer], drain_seconds: float) -> Numbers:
    """The part of a pilot that one job of each group occupies at each entry.

    Its largest share of the pilot's cores, memory or GPUs, as in GlideinWMS's count of multicore jobs (jobs times
    RequestCpus over GLIDEIN_CPUS), divided by how many such jobs run one
    after the other in ``drain_seconds``, the time in which the queue may be worked off, if they say how long they take.
    """
    need = np.array([group.demand[:4] for group in groups], np.float64).reshape(-1, 4)
    have = np.array([[o.cores, o.memory_mib, o.disk_mib or np.inf, o.gpus or np.inf] for o in offers], np.float64)
    part, other = np.zeros((len(groups), len(offers))), np.empty((len(groups), len(offers)))
    for column in range(4):
        np.divide(need[:, None, column], have.reshape(-1, 4)[None, :, column], out=other)
        np.maximum(part, other, out=part)
    length = np.array([group.demand.walltime_seconds for group in groups], np.float64)
    alive = np.minimum(np.array([offer.walltime_seconds for offer in offers], np.float64), drain_seconds)
    np.divide(alive[None, :], np.where(length > 0, length, np.inf)[:, None], out=other)
    waves = np.maximum(np.floor(other, out=other), 1.0, out=other)
    np.minimum(part, 1.0, out=part)
    return np.divide(part, waves, out=part)


def share_jobs(
    groups: Sequence[JobGroup],
    waiting: Integers,
    allowed: npt.NDArray[np.bool_],
    rank: Numbers,
    parts: Numbers,
    room: Numbers,
    order: npt.NDArray[np.intp],
) -> Shares:
    """Give ``waiting`` jobs of each group to entries.

    ``room`` is how many pilots each entry may still be given, ``order`` the entries from the best to the worst where
    ranks are equal. Groups with the fewest entries choose first.
    """
    left = room.astype(np.float64).copy()
    jobs = np.zeros(allowed.shape, np.int32)
    old, late = np.zeros(len(room)), np.zeros(len(room))
    for row in np.argsort(allowed.sum(axis=1), kind="stable"):
        if not waiting[row]:
            continue
        entries = order[allowed[row, order]]
        if not len(entries):
            continue
        part = parts[row, entries]
        given = _given(int(waiting[row]), rank[row, entries], part, left[entries])
        jobs[row, entries] = given
        left[entries] -= given * part
        late[entries] += given * part * min(groups[row].old / int(waiting[row]), 1.0)
        others = entries[given == 0]
        overdue = min(groups[row].old, int(waiting[row]))
        if overdue and len(others):
            each, more = divmod(overdue, len(others))
            old[others] += (each + (np.arange(len(others)) < more)) * parts[row, others]
    return Shares(jobs, (jobs * parts).sum(axis=0), late, old, room)


def _given(count: int, rank: Numbers, parts: Numbers, left: Numbers) -> Integers:
    """``count`` jobs over entries that are in the order of preference: the best rank as far as there is room."""
    fitting = np.maximum(np.floor(left / np.maximum(parts, 1e-9) + 1e-9), 0).astype(np.int64)
    best = np.argsort(-rank, kind="stable")
    filled = np.cumsum(fitting[best])
    if count >= filled[-1]:
        return fitting
    # Ranks before the one where the jobs run out are filled, those behind it get none.
    last = rank[best[np.searchsorted(filled, count, side="right")]]
    given = np.where(rank > last, fitting, 0)
    tier = rank == last
    together = np.maximum(np.floor(1 / parts[tier] + 1e-9), 1).astype(np.int64)
    given[tier] = _in_pilots(_evenly(count - int(given.sum()), fitting[tier]), together, fitting[tier])
    return given


def _evenly(count: int, room: Integers) -> Integers:
    """``count`` over places with ``room``, as evenly as the room allows; the first ones get what cannot be split."""
    if count >= room.sum():
        return room
    level = _level(count, room)
    given = np.minimum(room, level)
    more = np.flatnonzero(room > level)[: count - int(given.sum())]
    given[more] += 1
    return given


def _in_pilots(given: Integers, together: Integers, room: Integers) -> Integers:
    """The same number of jobs, the first places filling the pilots that they begin, each with ``together`` jobs."""
    full = np.minimum(-(-given // together) * together, room)
    reached: Integers = np.minimum(np.cumsum(full), given.sum())
    return reached - np.concatenate(([0], reached[:-1]))


def _level(count: int, room: Integers) -> int:
    """The largest number that every place can be given, up to its own room, without exceeding ``count`` in sum."""
    ordered = np.sort(room)
    places = len(ordered)
    before = np.concatenate(([0], np.cumsum(ordered)[:-1]))
    filled = before + ordered * (places - np.arange(places))
    full = int(np.searchsorted(filled, count, side="right"))
    return int((count - int(before[full])) // (places - full)) if full < places else int(ordered[-1])
