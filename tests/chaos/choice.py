"""Which points of the table are tried: chosen by a seed, so that a run can be had again."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tests.chaos.faults import FAULTS, SIGNALS, Fault

SIGNAL_NAMES = frozenset(fault.name for fault in SIGNALS)


class ChoiceError(ValueError):
    """The points that were asked for are not in the table."""


@dataclass(frozen=True, slots=True)
class Point:
    """One fault at one stage; `number` counts from 1, `payload` is the form of the pilot (pyz or sh)."""

    number: int
    fault: Fault
    stage: str
    payload: str

    @property
    def name(self) -> str:
        """How `CHAOS_ONLY` names it."""
        return f"{self.fault.name}@{self.stage}"


def choose(
    seed: int, count: int, *, without: Collection[str] = (), faults: Mapping[str, Fault] = FAULTS
) -> list[Point]:
    """`count` points. First come SIGTERM and SIGKILL at every stage, to a process that is there, and every other fault
    once; then whatever else is in the table, and all of it again. `without` are faults that cannot be had here."""
    rng = random.Random(seed)
    table = [(fault, stage) for fault in faults.values() if fault.name not in without for stage in fault.stages]
    groups: dict[tuple[str, ...], list[tuple[Fault, str]]] = {}
    for fault, stage in table:
        groups.setdefault(_group(fault, stage), []).append((fault, stage))
    first = [rng.choice(group) for group in groups.values()]
    rng.shuffle(first)
    taken = {(fault.name, stage) for fault, stage in first}
    rest = [(fault, stage) for fault, stage in table if (fault.name, stage) not in taken]
    rng.shuffle(rest)
    chosen = [*first, *rest][:count]
    while len(chosen) < count:
        chosen.append(rng.choice(table))
    return [Point(number, fault, stage, rng.choice(fault.payloads)) for number, (fault, stage) in enumerate(chosen, 1)]


def named(seed: int, names: str, faults: Mapping[str, Fault] = FAULTS) -> list[Point]:
    """The points in a list such as `kill-keeper@running,no-space@probe`. Raises ChoiceError for one that is unknown."""
    rng = random.Random(seed)
    found = []
    for number, name in enumerate(filter(None, (word.strip() for word in names.split(","))), 1):
        fault_name, _, rest = name.partition("@")
        stage, _, payload = rest.partition(":")
        fault = faults.get(fault_name)
        if fault is None:
            raise ChoiceError(f"there is no fault {fault_name!r}; there are {', '.join(faults)}")
        if stage not in fault.stages:
            raise ChoiceError(f"{fault_name} is struck at {', '.join(fault.stages)}, not at {stage!r}")
        if payload and payload not in fault.payloads:
            raise ChoiceError(f"{fault_name} is tried with {', '.join(fault.payloads)}, not with {payload!r}")
        found.append(Point(number, fault, stage, payload or rng.choice(fault.payloads)))
    return found


def _group(fault: Fault, stage: str) -> tuple[str, ...]:
    return (fault.name.partition("-")[0], stage) if fault.name in SIGNAL_NAMES else (fault.name,)
