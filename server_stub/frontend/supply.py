"""How many of the waiting jobs the pilots that are already there will take, without any further one.

A slot counts only for jobs that it can really take: large enough, at an entry that suits them, and with as much of
its pilot's lifetime left as they say they need. An idle pilot that no waiting job can use is no supply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from server_stub.frontend.groups import JobGroup, alike
from server_stub.frontend.jobs import Integers
from server_stub.frontend.slots import SlotTable

UNBOUNDED = 1 << 50
STEPS: Integers = np.unique(np.floor(2.0 ** (np.arange(32 * 50) / 32)).astype(np.int64))
MOST_TOGETHER = 16
"""Up to so many equal jobs in one slot are counted exactly."""
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Supply:
    """``taken`` is how many jobs of each group find a place. For each entry: slots that are ``idle``, and those among
    them that no waiting job can use (``useless``)."""

    taken: Integers
    idle: Integers
    useless: Integers


@dataclass
class _Shapes:
    """Free slots of one entry that are alike are one row. ``sizes``: of each slot its cores, memory, disk and GPUs, a
    row for each; ``left``: the same of all of the shape's slots together, as far as nobody has taken it; ``count`` of
    busy slots is how many of them will be free soon, which need not be whole. ``used`` are shapes that some job fits
    into, ``of_entry`` the shapes of each entry, but for some that have no core left. ``whole``: only whole jobs
    count."""

    entry: npt.NDArray[np.int32]
    sizes: Integers
    lifetime: Integers
    count: Numbers
    left: Numbers
    used: npt.NDArray[np.bool_]
    of_entry: list[npt.NDArray[np.intp]]
    whole: bool


def supply(
    groups: Sequence[JobGroup],
    allowed: npt.NDArray[np.bool_],
    slots: SlotTable,
    entries: Sequence[str],
    now: float,
    *,
    lead_seconds: float = 0.0,
    job_seconds: float | None = None,
) -> Supply:
    """What the pool's slots will take.

    Idle slots count whole. A busy one counts for the share of it that will be free within ``lead_seconds``, the time
    that a new pilot would need, where jobs usually take ``job_seconds``; without these none does.
    """
    place = slots.of_entries(entries)
    idle = slots.idle & (place >= 0)
    demands = np.array([group.demand[:5] for group in groups], np.int64).reshape(-1, 5)
    shapes = _shapes(slots, place, idle, now, 1.0, demands, len(entries))
    taken = np.zeros(len(groups), np.int64)
    order = [int(row) for row in np.argsort(allowed.sum(axis=1), kind="stable")]
    for row in order:
        taken[row] = _take(groups[row], allowed[row], shapes, groups[row].idle)
    share = min(lead_seconds / job_seconds, 1.0) if job_seconds else 0.0
    if share > 0:
        soon = _shapes(slots, place, slots.busy & (place >= 0), now + lead_seconds, share, demands, len(entries))
        for row in order:
            taken[row] += _take(groups[row], allowed[row], soon, groups[row].idle - int(taken[row]))
    return Supply(
        taken,
        np.bincount(place[idle], minlength=len(entries)),
        np.bincount(shapes.entry[~shapes.used], weights=shapes.count[~shapes.used], minlength=len(entries)).astype(
            np.int64
        ),
    )


def _shapes(
    slots: SlotTable,
    place: npt.NDArray[np.int32],
    chosen: npt.NDArray[np.bool_],
    at: float,
    share: float,
    demands: Integers,
    entries: int,
) -> _Shapes:
    """The chosen slots, those together that differ in nothing that these demands could tell (nearly so where several
    jobs fit into one slot)."""
    lifetime = np.clip(slots.retires[chosen] - int(at), 0, UNBOUNDED)
    sizes = slots.sizes[chosen]
    memory, disk = (_stepped(sizes[:, column], demands[:, column]) for column in (1, 2))
    lasting = _floor(lifetime, demands[:, 4])
    rows = np.column_stack((place[chosen].astype(np.int64), sizes[:, 0], memory, disk, sizes[:, 3], lasting))
    first, number = alike(rows)
    kinds = rows[first]
    count = np.bincount(number, minlength=len(first)).astype(np.float64) * share
    each = np.ascontiguousarray(kinds[:, 1:5].T)
    of_entry = np.split(np.arange(len(first)), np.searchsorted(kinds[:, 0], np.arange(1, entries)))
    entry, lasts = kinds[:, 0].astype(np.int32), kinds[:, 5].copy()
    return _Shapes(entry, each, lasts, count, each * count, np.zeros(len(first), np.bool_), of_entry, share == 1.0)


def _stepped(sizes: Integers, demands: Integers) -> Integers:
    """The sizes, each down to the next step of a thirty-second of a doubling, or to what some jobs demand together."""
    coarse = STEPS[: np.searchsorted(STEPS, sizes.max(initial=1), side="right")]
    exact = np.outer(np.unique(demands), np.arange(1, MOST_TOGETHER + 1))
    return _floor(sizes, np.concatenate((coarse, exact.ravel())))


def _floor(values: Integers, steps: Integers) -> Integers:
    """Each value down to the next step; below the first one it is 0."""
    known = np.unique(np.concatenate(([0], steps)))
    return known[np.searchsorted(known, values, side="right") - 1]


def _take(group: JobGroup, allowed: npt.NDArray[np.bool_], shapes: _Shapes, most: int) -> int:
    """Give a group's jobs their places; how many found one."""
    if most <= 0 or not len(shapes.entry):
        return 0
    rows = _with_cores(np.flatnonzero(allowed).tolist(), shapes)
    rows = rows[shapes.lifetime[rows] >= group.demand.walltime_seconds]
    need = [(column, amount) for column, amount in enumerate(group.demand[:4]) if amount > 0]
    for column, amount in need:
        rows = rows[shapes.sizes[column][rows] >= amount]
    if not len(rows):
        return 0
    shapes.used[rows] = True
    room, count = np.full(len(rows), np.inf), shapes.count[rows]
    for column, amount in need:
        np.minimum(room, shapes.sizes[column][rows] // amount * count, out=room)
        np.minimum(room, shapes.left[column][rows] / amount, out=room)
    filled = np.minimum(np.cumsum(np.floor(room + 1e-9) if shapes.whole else room), most)
    took = filled.copy()
    took[1:] -= filled[:-1]
    for column, amount in need:
        shapes.left[column][rows] -= took * amount
    return int(filled[-1] + 1e-9)


def _with_cores(entries: list[int], shapes: _Shapes) -> npt.NDArray[np.intp]:
    """The shapes at these entries that have a core left. Where most have none, those are not looked at again."""
    if not entries:
        return np.zeros(0, np.intp)
    cores, least = shapes.left[0], 1 if shapes.whole else 1e-6
    near = np.concatenate([shapes.of_entry[entry] for entry in entries])
    some: npt.NDArray[np.intp] = near[cores[near] >= least]
    if 2 * len(some) < len(near):
        for entry in entries:
            at = shapes.of_entry[entry]
            shapes.of_entry[entry] = at[cores[at] >= least]
    return some
