"""How the node is divided into slots, and the lines that say so to HTCondor.

Nothing is left to HTCondor's own counting: every type of slot has its cores, memory, disk, GPUs and resources, and
their sums are at most what the pilot has. Only cores may be more: a slot for jobs that do not compute (``ioslot``) has
one beside those of the node, as it has with GlideinWMS.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from pilot_agent.config_slots import IN_THE_MAIN_SLOT, ResourceSlot
from pilot_agent.model import Failure, FailureKind, PilotError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Layout = Literal["partitionable", "fixed"]

DEFAULT_UNIT_MEMORY_MIB = 128
SMALLEST_SLOT_MEMORY_MIB = 1
HTCONDOR_SLOT_TYPES = 10
"""HTCondor reads so many types of slots without MAX_SLOT_TYPES."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the whole pilot has."""

    cores: int
    memory_mib: int
    disk_mib: int
    gpus: int


@dataclass(frozen=True, slots=True)
class SlotGroup:
    """Slots that are alike: one type of HTCondor's. The sizes are those of each slot; ``disk_percent`` is what HTCondor
    takes for a share; ``only_for`` is the resource that a job must ask for to come here."""

    count: int
    cores: int
    memory_mib: int
    disk_percent: str
    gpus: int = 0
    partitionable: bool = False
    resources: Mapping[str, int] = field(default_factory=dict)
    only_for: str | None = None

    @property
    def text(self) -> str:
        """The value of SLOT_TYPE_n."""
        words = [f"cpus={self.cores}, memory={self.memory_mib}, disk={self.disk_percent}, gpus={self.gpus}"]
        return ", ".join((*words, *(f"{name}={units}" for name, units in self.resources.items())))


@dataclass(frozen=True, slots=True)
class SlotWish:
    """What the configuration asks for: ``count`` or ``cores_each`` are for fixed slots only."""

    layout: Layout = "partitionable"
    count: int | None = None
    cores_each: int | None = None
    resources: tuple[ResourceSlot, ...] = ()


def usable_gpus(wish: SlotWish, found: int, most: int | None) -> int:
    """How many of the GPUs that were found jobs may get. Where resources are named, GPUs have to be among them."""
    limits = [found] if most is None else [found, most]
    if wish.resources:
        limits += [slot.number for slot in wish.resources if slot.is_gpus and slot.number is not None]
        limits += [] if any(slot.is_gpus for slot in wish.resources) else [0]
    return min(limits)


def plan_slots(sizes: Sizes, wish: SlotWish) -> tuple[SlotGroup, ...]:
    """The types of slots, the main ones first. Raises ``PilotError`` (config ``slots.*``) for a division that the node
    is too small for."""
    counted = [(slot, sizes.gpus if slot.is_gpus else slot.number or 0) for slot in wish.resources]
    counted = [(slot, units) for slot, units in counted if units]
    apart = [(slot, units) for slot, units in counted if slot.kind not in IN_THE_MAIN_SLOT]
    inside = [(slot, units) for slot, units in counted if slot.kind in IN_THE_MAIN_SLOT]
    names = [slot.name for slot, _ in counted if not slot.is_gpus]
    gpus = 0 if any(slot.is_gpus for slot, _ in apart) else sizes.gpus
    cores = sizes.cores + sum(units for slot, units in inside if slot.kind == "extra")
    all_cores = cores + sum(units for _, units in apart)
    memory = [slot.memory_mib or DEFAULT_UNIT_MEMORY_MIB * units for slot, units in apart]
    disk = [_disk_share(slot, units, sizes, all_cores) for slot, units in apart]
    rest = Sizes(cores, sizes.memory_mib - sum(memory), sizes.disk_mib, gpus)
    left = 1.0 - sum(disk)
    if rest.memory_mib < SMALLEST_SLOT_MEMORY_MIB or (apart and left <= 0):
        raise _too_small(f"the slots of {', '.join(slot.name for slot, _ in apart)} leave no memory or no disk", sizes)
    held = {slot.name: units for slot, units in inside if not slot.is_gpus}
    main = _main(rest, left, wish, held, sizes)
    extra = [
        _apart(slot, units, megabytes, share)
        for (slot, units), megabytes, share in zip(apart, memory, disk, strict=True)
    ]
    return tuple(_complete(group, names) for group in (*main, *extra))


def slot_knobs(groups: Sequence[SlotGroup], memory_mib: int, disk_mib: int) -> dict[str, str]:
    """The configuration of these slots on a node with so much memory and disk."""
    names = list(dict.fromkeys(name for group in groups for name in group.resources))
    knobs = {
        "NUM_CPUS": str(sum(group.count * group.cores for group in groups)),
        "MEMORY": str(memory_mib),
        "DISK": str(disk_mib * 1024),
        "RESERVED_MEMORY": "0",
        "RESERVED_DISK": "0",
        "NUM_SLOTS": str(sum(group.count for group in groups)),
        "MAX_SLOT_TYPES": str(max(HTCONDOR_SLOT_TYPES, len(groups))),
    }
    for name in names:
        knobs[f"MACHINE_RESOURCE_{name}"] = str(sum(group.count * group.resources.get(name, 0) for group in groups))
    for number, group in enumerate(groups, start=1):
        knobs[f"NUM_SLOTS_TYPE_{number}"] = str(group.count)
        knobs[f"SLOT_TYPE_{number}"] = group.text
        knobs[f"SLOT_TYPE_{number}_PARTITIONABLE"] = str(group.partitionable)
    return knobs


def start_condition(groups: Sequence[SlotGroup]) -> str:
    """What keeps jobs that do not ask for a resource out of its slots; empty without such slots."""
    conditions = []
    for number, group in enumerate(groups, start=1):
        if group.only_for is not None:
            # The slots that are cut from a partitionable one have its type with a minus.
            here = f"(MY.SlotTypeID == {number} || MY.SlotTypeID == -{number})"
            conditions.append(f"({here} =!= True || (TARGET.Request{group.only_for} > 0) =?= True)")
    return " && ".join(conditions)


def _main(rest: Sizes, left: float, wish: SlotWish, held: Mapping[str, int], sizes: Sizes) -> list[SlotGroup]:
    if wish.layout == "partitionable":
        return [SlotGroup(1, rest.cores, rest.memory_mib, percent(left), rest.gpus, True, held)]
    if wish.cores_each is not None:
        count, each = rest.cores // wish.cores_each, wish.cores_each
        shares = [each] * count
    else:
        count = rest.cores if wish.count is None else wish.count
        each, more = divmod(rest.cores, count)
        shares = [each + (number < more) for number in range(count)]
    if not shares or shares[-1] < 1 or rest.memory_mib < count * SMALLEST_SLOT_MEMORY_MIB:
        asked = f"of {wish.cores_each} cores" if wish.cores_each is not None else f"{count} in number"
        raise _too_small(f"fixed slots {asked} do not fit", sizes)
    return _alike(shares, rest, left, held)


def _alike(shares: list[int], rest: Sizes, left: float, held: Mapping[str, int]) -> list[SlotGroup]:
    """The slots with these cores, those that are alike in one group. Whole units go to the first slots first."""
    total = sum(shares)
    kinds: dict[tuple[object, ...], list[SlotGroup]] = {}
    for number, cores in enumerate(shares):
        gpus, *units = (_part(whole, number, len(shares)) for whole in (rest.gpus, *held.values()))
        memory = rest.memory_mib * cores // total
        resources = dict(zip(held, units, strict=True))
        group = SlotGroup(1, cores, memory, percent(left * cores / total), gpus, resources=resources)
        kinds.setdefault((cores, gpus, *units), []).append(group)
    return [replace(same[0], count=len(same)) for same in kinds.values()]


def _apart(slot: ResourceSlot, units: int, memory_mib: int, share: float) -> SlotGroup:
    """One slot for each unit, or one with all of them that is divided as jobs come."""
    together = slot.kind in (None, "partitionable") and units > 1
    count, each = (1, units) if together else (units, 1)
    memory = memory_mib // count
    gpus, held = (each, {}) if slot.is_gpus else (0, {slot.name: each})
    return SlotGroup(count, each, memory, percent(share / count), gpus, together, held, only_for=slot.name)


def _complete(group: SlotGroup, names: Sequence[str]) -> SlotGroup:
    """The group with a number for every resource: HTCondor would divide what is not told."""
    resources = {name: group.resources.get(name, 0) for name in names}
    return replace(group, resources=resources)


def _disk_share(slot: ResourceSlot, units: int, sizes: Sizes, all_cores: int) -> float:
    if slot.disk_share is not None:
        return slot.disk_share
    if slot.disk_kib is not None:
        return slot.disk_kib / (sizes.disk_mib * 1024) if sizes.disk_mib else 1.0
    return units / all_cores


def _part(whole: int, number: int, of: int) -> int:
    """The ``number``-th of so many parts of what cannot be cut."""
    each, more = divmod(whole, of)
    return each + (number < more)


def percent(share: float) -> str:
    """A share as HTCondor takes it: less than all is rounded down by so much that the parts, each of which HTCondor
    rounds up to whole KiB, are not more than the whole."""
    thousandths = 100_000 if share >= 1 else max(1, math.floor(share * 100_000) - 1)
    return f"{thousandths / 1000:.3f}".rstrip("0").rstrip(".") + "%"


def _too_small(what: str, sizes: Sizes) -> PilotError:
    had = f"{sizes.cores} cores, {sizes.memory_mib} MiB of memory, {sizes.disk_mib} MiB of disk, {sizes.gpus} GPUs"
    return PilotError(
        Failure(
            FailureKind.CONFIG,
            "slots.too_small",
            f"the pilot has {had}: {what}",
            hint="the factory changes startd.resource_slots, startd.fixed_slots or startd.cores_per_slot for this node",
            stage="handoff",
        )
    )
