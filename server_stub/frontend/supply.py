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
    """Free slots of one entry that are alike are one row. ``sizes``: of each slot its cores, memory, disk and GPUs;
    ``left``: the same of all of the row's slots together, as far as nobody has taken it; ``count`` of busy slots is how
    many of them will be free soon, which need not be whole."""

    entry: npt.NDArray[np.int32]
    sizes: Integers
    lifetime: Integers
    count: Numbers
    left: Numbers


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
    shapes = _shapes(slots, place, idle, now, 1.0, demands)
    taken = np.zeros(len(groups), np.int64)
    order = [int(row) for row in np.argsort(allowed.sum(axis=1), kind="stable")]
    useful = np.zeros(len(shapes.entry), np.bool_)
    for row in order:
        taken[row] = _take(groups[row], allowed[row], shapes, groups[row].idle, useful)
    share = min(lead_seconds / job_seconds, 1.0) if job_seconds else 0.0
    if share > 0:
        soon = _shapes(slots, place, slots.busy & (place >= 0), now + lead_seconds, share, demands)
        for row in order:
            taken[row] += _take(groups[row], allowed[row], soon, groups[row].idle - int(taken[row]))
    return Supply(
        taken,
        np.bincount(place[idle], minlength=len(entries)),
        np.bincount(shapes.entry[~useful], weights=shapes.count[~useful], minlength=len(entries)).astype(np.int64),
    )


def _shapes(
    slots: SlotTable,
    place: npt.NDArray[np.int32],
    chosen: npt.NDArray[np.bool_],
    at: float,
    share: float,
    demands: Integers,
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
    return _Shapes(kinds[:, 0].astype(np.int32), kinds[:, 1:5], kinds[:, 5], count, kinds[:, 1:5] * count[:, None])


def _stepped(sizes: Integers, demands: Integers) -> Integers:
    """The sizes, each down to the next step of a thirty-second of a doubling, or to what some jobs demand together."""
    coarse = STEPS[: np.searchsorted(STEPS, sizes.max(initial=1), side="right")]
    exact = np.outer(np.unique(demands), np.arange(1, MOST_TOGETHER + 1))
    return _floor(sizes, np.concatenate((coarse, exact.ravel())))


def _floor(values: Integers, steps: Integers) -> Integers:
    """Each value down to the next step; below the first one it is 0."""
    known = np.unique(np.concatenate(([0], steps)))
    return known[np.searchsorted(known, values, side="right") - 1]


def _take(
    group: JobGroup,
    allowed: npt.NDArray[np.bool_],
    shapes: _Shapes,
    most: int,
    useful: npt.NDArray[np.bool_] | None = None,
) -> int:
    """Give a group's jobs their places; how many found one."""
    if most <= 0 or not len(shapes.entry):
        return 0
    need = np.maximum(np.array(group.demand[:4], np.int64), 0)
    fits = allowed[shapes.entry] & (shapes.lifetime >= group.demand.walltime_seconds)
    fits &= (shapes.sizes >= need).all(axis=1)
    rows = np.flatnonzero(fits)
    if not len(rows):
        return 0
    if useful is not None:
        useful[rows] = True
    asked = need > 0
    each = np.floor(shapes.sizes[rows][:, asked] / need[asked]).min(axis=1) * shapes.count[rows]
    room = np.minimum(each, (shapes.left[rows][:, asked] / need[asked]).min(axis=1))
    room = np.floor(room + 1e-9) if useful is not None else np.maximum(room, 0.0)
    filled = np.minimum(np.cumsum(room), most)
    used = np.diff(filled, prepend=0.0)
    shapes.left[rows] -= used[:, None] * need
    return int(filled[-1])
