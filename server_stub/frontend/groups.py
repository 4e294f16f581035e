"""Idle jobs that are alike in all that decides where they can run, and how many of each kind wait."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from server_stub.frontend.jobs import Demand, Integers, JobTable

MEMORY_STEPS, OTHER_STEPS = 4, 1
"""How many steps a doubling of a size has: memory decides how many jobs share a pilot, others only whether they fit."""
LARGEST_CODE = 1 << 62


@dataclass(frozen=True, slots=True)
class JobGroup:
    """Jobs that the same slots can take. ``demand`` is as large as the largest among them; ``old`` of the ``idle`` ones
    have waited long, the oldest for ``oldest_seconds``."""

    demand: Demand
    idle: int
    old: int = 0
    oldest_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Borders:
    """Sizes that entries offer. Jobs on both sides of one never come into one group, so that a group fits into an entry
    exactly where each of its jobs does."""

    memory_mib: frozenset[int] = field(default_factory=frozenset)
    disk_mib: frozenset[int] = field(default_factory=frozenset)
    walltime_seconds: frozenset[int] = field(default_factory=frozenset)


def group_jobs(
    jobs: JobTable, now: float, borders: Borders, *, old_seconds: int = 600, closed: Iterable[str] = ()
) -> list[JobGroup]:
    """The groups, those that waited longest first. Jobs of ``closed`` access points, which start no more jobs for now,
    are left out."""
    counted = ~np.isin(jobs.access_point, [n for n, name in enumerate(jobs.access_points) if name in set(closed)])
    kinds = len(jobs.demands)
    waited = np.maximum(int(now) - jobs.since, 0)
    idle = np.bincount(jobs.demand[counted], minlength=kinds)
    old = np.bincount(jobs.demand[counted & (waited > old_seconds)], minlength=kinds)
    oldest = np.zeros(kinds, np.int64)
    np.maximum.at(oldest, jobs.demand[counted], waited[counted])
    return _merged(jobs.demands, idle, old, oldest, borders)


def _merged(
    demands: tuple[Demand, ...], idle: Integers, old: Integers, oldest: Integers, borders: Borders
) -> list[JobGroup]:
    """One group of all demands that are alike; of the columns with sizes each group has the largest value."""
    present = np.flatnonzero(idle)
    if not len(present):
        return []
    kept = [demands[number] for number in present]
    sizes = np.array([demand[:5] for demand in kept], np.int64)
    texts: dict[tuple[object, ...], int] = {}
    rows = np.empty((len(kept), 6), np.int64)
    rows[:, 0], rows[:, 3] = sizes[:, 0], sizes[:, 3]
    rows[:, 1] = _step(sizes[:, 1], borders.memory_mib, MEMORY_STEPS)
    rows[:, 2] = _step(sizes[:, 2], borders.disk_mib, OTHER_STEPS)
    rows[:, 4] = _step(sizes[:, 4], borders.walltime_seconds, OTHER_STEPS)
    rows[:, 5] = [texts.setdefault(demand[5:], len(texts)) for demand in kept]
    first, group = alike(rows)
    count = len(first)
    largest = np.zeros((count, 5), np.int64)
    np.maximum.at(largest, group, sizes)
    totals = [np.bincount(group, weights=column[present], minlength=count).astype(int) for column in (idle, old)]
    longest = np.zeros(count, np.int64)
    np.maximum.at(longest, group, oldest[present])
    order = np.lexsort((first, -longest))
    return [
        JobGroup(
            Demand(*largest[number].tolist(), *kept[first[number]][5:]),
            int(totals[0][number]),
            int(totals[1][number]),
            int(longest[number]),
        )
        for number in order
    ]


def _step(values: Integers, borders: Iterable[int], per_doubling: int) -> Integers:
    """The number of the step that each value is on; every border ends one."""
    top = max(int(values.max()), 1).bit_length() + 1
    grid = np.ceil(2.0 ** (np.arange(per_doubling * top) / per_doubling)).astype(np.int64)
    ends = np.unique(np.concatenate(([0], grid, np.array(sorted(borders), np.int64))))
    return np.searchsorted(ends, values).astype(np.int64)


def alike(rows: Integers) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """For rows that are equal: where the first of each stands, and which one each row equals."""
    codes, span = np.zeros(len(rows), np.int64), 1
    for column in rows.T if len(rows) else ():
        numbers, wide = column - column.min(), int(column.max()) - int(column.min()) + 1
        if span * wide > LARGEST_CODE:
            # Numbered anew, in the same order, so that both are no larger than the number of rows.
            codes, numbers = (np.unique(values, return_inverse=True)[1] for values in (codes, numbers))
            span, wide = int(codes.max()) + 1, int(numbers.max()) + 1
        codes = codes * wide + numbers
        span *= wide
    _, first, group = np.unique(codes, return_index=True, return_inverse=True)
    return first, group
