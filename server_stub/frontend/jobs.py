"""Idle jobs as columns. A million of them are three arrays and one table of what the distinct ones among them demand.

A record is a tuple of plain values in the projection's order, so that the ads of one query can be let go as they are
read. Reading is bounded: what a job's owner writes decides neither how large a value is nor of which type.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt

from pilot_agent.config_keys import KEYS
from server_stub.frontend.readable import is_number, read_each

T = TypeVar("T")
Scalar = str | int | float | bool | None
Integers = npt.NDArray[np.int64]

LONGEST_TEXT = 8192
"""Characters of an expression or of another text that are looked at; a longer one is as if it was not there."""
LARGEST_NUMBER = 1 << 53
SECONDS_OF = {"seconds": 1, "minutes": 60, "hours": 3600}

# HTCondor's own amounts where a submit file says nothing.
LEAST_CORES = 1


class Demand(NamedTuple):
    """What one job needs. ``walltime_seconds`` is 0 where it does not say how long it takes; ``container`` whether it
    only runs in one; ``requirements`` is its own expression about machines; ``attributes`` are the values that a policy
    asks for, in the order in which the policy names them."""

    cores: int
    memory_mib: int
    disk_mib: int
    gpus: int
    walltime_seconds: int
    container: bool
    requirements: str
    attributes: tuple[Scalar, ...] = ()


class JobRecord(NamedTuple):
    """One idle job: since when it waits (seconds since 1970), and the fields of its ``Demand``."""

    since: int
    cores: int
    memory_mib: int
    disk_mib: int
    gpus: int
    walltime_seconds: int
    container: bool
    requirements: str
    attributes: tuple[Scalar, ...] = ()


Ad = Mapping[str, Any]
"""HTCondor's ClassAd, or plain values by name."""


@dataclass(frozen=True, slots=True)
class JobReader:
    """Turns job ads into records. ``attributes`` are further ones that a policy needs; ``lengths`` says in which ones
    jobs tell how long they take, with the unit, as the pilots' ``time.job_length`` does: of several the first counts.
    """

    attributes: tuple[str, ...] = ()
    lengths: tuple[tuple[str, str], ...] = ()
    texts: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Every text once: jobs of one submission have the same ones."""

    @property
    def projection(self) -> list[str]:
        """The attributes to ask an access point for."""
        fixed = ["RequestCpus", "RequestMemory", "RequestDisk", "RequestGPUs", "Requirements", "QDate"]
        fixed += ["EnteredCurrentStatus", "ContainerImage", "SingularityImage", "REQUIRED_OS"]
        return [*fixed, *(name for name, _ in self.lengths), *self.attributes]

    def record(self, ad: Ad) -> JobRecord:
        """One job's record."""
        since = whole(ad, "EnteredCurrentStatus") or whole(ad, "QDate")
        wishes = (ad.get("ContainerImage"), ad.get("SingularityImage"), ad.get("REQUIRED_OS"))
        return JobRecord(
            since=since,
            cores=max(whole(ad, "RequestCpus"), LEAST_CORES),
            memory_mib=whole(ad, "RequestMemory"),
            disk_mib=-(-whole(ad, "RequestDisk") // 1024),
            gpus=whole(ad, "RequestGPUs"),
            walltime_seconds=self._length(ad),
            container=any(isinstance(wish, str) and wish for wish in wishes),
            requirements=self._shared(_text(ad.get("Requirements"))),
            attributes=tuple(self._shared(_scalar(ad.get(name))) for name in self.attributes),
        )

    def records(self, ads: Iterable[Ad]) -> list[JobRecord]:
        """The records of these jobs; what cannot be read of one is as if it was not there."""
        return list(read_each(ads, self.record))

    def _shared(self, value: T) -> T:
        return cast("T", self.texts.setdefault(value, value)) if isinstance(value, str) else value

    def _length(self, ad: Ad) -> int:
        for name, unit in self.lengths:
            number = whole(ad, name)
            if number > 0:
                return min(number * SECONDS_OF[unit], LARGEST_NUMBER)
        return 0


def job_lengths() -> tuple[tuple[str, str], ...]:
    """The attributes of ``time.job_length`` as pilots have them without configuration."""
    default = next(key.default for key in KEYS if key.path == "time.job_length")
    return tuple(default.items()) if isinstance(default, Mapping) else ()


def whole(ad: Ad, name: str) -> int:
    """The value as a number from 0 to the largest; an expression over the job's own attributes is evaluated."""
    value = ad.get(name)
    if type(value) is int and 0 <= value <= LARGEST_NUMBER:  # nearly always, and a million times
        return value
    evaluate = getattr(ad, "eval", None)
    if evaluate is not None and value is not None and not isinstance(value, int | float | str):
        value = evaluate(name)
    if not is_number(value) or value != value:
        return 0
    return int(min(max(value, 0), LARGEST_NUMBER))


def _text(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= LONGEST_TEXT else ""


def _scalar(value: object) -> Scalar:
    if isinstance(value, bool) or is_number(value):
        return value
    return value if isinstance(value, str) and len(value) <= LONGEST_TEXT else None


class _Numbers(dict[tuple[object, ...], int]):
    """Gives each new key the next number: ``numbers[key]`` in one look-up without Python code for known ones."""

    def __missing__(self, key: tuple[object, ...]) -> int:
        number = self[key] = len(self)
        return number


@dataclass(frozen=True, slots=True)
class JobTable:
    """Idle jobs: ``since`` and ``demand`` for each job, the latter a row of ``demands``; ``access_point`` is a row of
    ``access_points``."""

    since: Integers
    demand: npt.NDArray[np.int32]
    access_point: npt.NDArray[np.int16]
    demands: tuple[Demand, ...] = ()
    access_points: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.since)


class JobTableBuilder:
    """Takes the records of one access point after the other; none of them is kept."""

    def __init__(self) -> None:
        self._numbers = _Numbers()
        self._since: list[Integers] = []
        self._demand: list[npt.NDArray[np.int32]] = []
        self._access_points: list[str] = []

    def add(self, access_point: str, records: Sequence[JobRecord]) -> None:
        """The idle jobs of one access point."""
        count = len(records)
        demands = map(itemgetter(slice(1, None)), records)
        self._since.append(np.fromiter(map(itemgetter(0), records), np.int64, count))
        self._demand.append(np.fromiter(map(self._numbers.__getitem__, demands), np.int32, count))
        self._access_points.append(access_point)

    def table(self) -> JobTable:
        """All jobs that were added."""
        counts = [len(chunk) for chunk in self._since]
        return JobTable(
            np.concatenate(self._since) if counts else np.zeros(0, np.int64),
            np.concatenate(self._demand) if counts else np.zeros(0, np.int32),
            np.repeat(np.arange(len(counts), dtype=np.int16), counts),
            tuple(map(Demand._make, self._numbers)),
            tuple(self._access_points),
        )


def job_table(records: Mapping[str, Iterable[JobRecord]]) -> JobTable:
    """The table of each access point's records."""
    builder = JobTableBuilder()
    for access_point, chunk in records.items():
        builder.add(access_point, list(chunk))
    return builder.table()
