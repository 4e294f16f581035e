"""The pool's slots as columns: what is free in them, for how long, and which pilot and entry each belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from server_stub.frontend.jobs import LARGEST_NUMBER, Ad, Integers, whole
from server_stub.frontend.readable import is_number, read_each

PROJECTION = (
    *("PilotId", "GLIDEIN_Entry_Name", "State", "SlotType", "Cpus", "Memory", "Disk", "GPUs", "GLIDEIN_CPUS"),
    *("GLIDEIN_ToRetire", "Start", "GLIDEIN_Factory", "GLIDEIN_ClusterId", "GLIDEIN_ProcId"),
)
"""The attributes to ask a collector for."""


class SlotRecord(NamedTuple):
    """One slot. ``pilot`` is the pilot's own name, with its batch job's number behind it where that is known
    (``name#cluster.process``). ``retires`` is when jobs no longer begin in the slot (seconds since 1970); ``busy``
    whether it is claimed, ``open`` whether it takes jobs at all."""

    entry: str
    pilot: str
    busy: bool
    open: bool
    cores: int
    memory_mib: int
    disk_mib: int
    gpus: int
    retires: int


def slot_record(ad: Ad) -> SlotRecord:
    """The record of a slot's ad. A partitionable slot has in its ad what is left of it. Where the ad names a factory
    the entry is ``entry@factory``: two factories may use the same name."""
    names = [str(ad.get(name, "")) for name in ("GLIDEIN_Entry_Name", "GLIDEIN_Factory")]
    busy = ad.get("State") == "Claimed" and ad.get("SlotType") != "Partitionable"
    return SlotRecord(
        entry="@".join(filter(None, names)),
        pilot=_pilot(ad),
        busy=busy,
        open=busy or not _closed(ad),
        cores=whole(ad, "Cpus"),
        memory_mib=whole(ad, "Memory"),
        disk_mib=whole(ad, "Disk") // 1024,
        gpus=whole(ad, "GPUs"),
        retires=whole(ad, "GLIDEIN_ToRetire") or LARGEST_NUMBER,
    )


def _pilot(ad: Ad) -> str:
    name, cluster, process = (ad.get(key) for key in ("PilotId", "GLIDEIN_ClusterId", "GLIDEIN_ProcId"))
    job = f"#{cluster}.{process}" if is_number(cluster) and is_number(process) else ""
    return f"{name or ''}{job}"


def _closed(ad: Ad) -> bool:
    """Whether START is false for every job, as far as the slot alone can tell."""
    start = ad.get("Start")
    if start is None or isinstance(start, bool | str | int | float):
        return start is False
    evaluate = getattr(ad, "eval", None)
    return evaluate is not None and evaluate("Start") is False


@dataclass(frozen=True, slots=True)
class SlotTable:
    """Slots: ``entry`` and ``pilot`` are rows of ``entries`` and ``pilots``; ``sizes`` has four columns: cores, MiB
    of memory, MiB of disk, GPUs."""

    entry: npt.NDArray[np.int32]
    pilot: npt.NDArray[np.int32]
    busy: npt.NDArray[np.bool_]
    open: npt.NDArray[np.bool_]
    sizes: Integers
    retires: Integers
    entries: tuple[str, ...] = ()
    pilots: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.entry)

    @property
    def idle(self) -> npt.NDArray[np.bool_]:
        """Whether a job could begin in the slot: it is open, not claimed, and has a core and memory left."""
        return ~self.busy & self.open & (self.sizes[:, 0] > 0) & (self.sizes[:, 1] > 0)

    def of_entries(self, names: Iterable[str]) -> npt.NDArray[np.int32]:
        """For each slot the place of its entry among ``names``; -1 for another's."""
        places = {name: place for place, name in enumerate(names)}
        known = np.array([places.get(name, -1) for name in self.entries] or [-1], np.int32)
        return known[self.entry] if len(self) else np.zeros(0, np.int32)

    def pilot_states(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """For each pilot the row of its entry, and whether any of its slots is claimed."""
        entry = np.zeros(len(self.pilots), np.int32)
        entry[self.pilot] = self.entry
        return entry, np.bincount(self.pilot, weights=self.busy, minlength=len(self.pilots)) > 0


def batch_job(pilot: str) -> str:
    """The number of the batch job in a slot record's name of a pilot; empty where it is not known."""
    return pilot.partition("#")[2]


def slot_table(records: Iterable[SlotRecord]) -> SlotTable:
    """The table of these slots."""
    listed = list(records)
    entries: dict[str, int] = {}
    pilots: dict[str, int] = {}
    count = len(listed)
    return SlotTable(
        np.fromiter((entries.setdefault(slot.entry, len(entries)) for slot in listed), np.int32, count),
        np.fromiter((pilots.setdefault(slot.pilot, len(pilots)) for slot in listed), np.int32, count),
        np.fromiter((slot.busy for slot in listed), np.bool_, count),
        np.fromiter((slot.open for slot in listed), np.bool_, count),
        np.array([slot[4:8] for slot in listed], np.int64).reshape(-1, 4),
        np.fromiter((slot.retires for slot in listed), np.int64, count),
        tuple(entries),
        tuple(pilots),
    )


def read_slots(ads: Iterable[Mapping[str, object]]) -> SlotTable:
    """The table of the ads that a collector returned."""
    return slot_table(read_each(ads, slot_record))
