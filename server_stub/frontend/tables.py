"""Tables of jobs and slots as files, by which one process hands them to another: columns and JSON, no pickles."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from server_stub.frontend.jobs import Demand, Integers, JobTable
from server_stub.frontend.slots import SlotTable

TEXTS = "texts"


def save_jobs(path: str, table: JobTable) -> None:
    """Write the jobs of one access point."""
    _save(path, [list(demand) for demand in table.demands], {"since": table.since, "demand": table.demand})


def load_jobs(paths: Sequence[tuple[str, str]]) -> JobTable:
    """One table of the jobs of several access points, each a name with its file. Raises ``OSError``,
    ``ValueError``, ``BadZipFile``."""
    numbers: dict[Demand, int] = {}
    since: list[Integers] = []
    demand: list[npt.NDArray[np.int32]] = []
    for _, path in paths:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as columns:
            demands = [_demand(fields) for fields in json.loads(columns[TEXTS].tobytes())]
            place = np.array([numbers.setdefault(each, len(numbers)) for each in demands], np.int32)
            since.append(columns["since"])
            demand.append(place[columns["demand"]] if len(place) else np.zeros(0, np.int32))
    counts = [len(chunk) for chunk in since]
    return JobTable(
        np.concatenate(since) if counts else np.zeros(0, np.int64),
        np.concatenate(demand) if counts else np.zeros(0, np.int32),
        np.repeat(np.arange(len(counts), dtype=np.int16), counts),
        tuple(numbers),
        tuple(name for name, _ in paths),
    )


def _demand(fields: list[object]) -> Demand:
    demand = Demand._make(fields)
    return demand._replace(attributes=tuple(demand.attributes))


def save_slots(path: str, table: SlotTable) -> None:
    """Write slots."""
    columns = {name: getattr(table, name) for name in ("entry", "pilot", "busy", "open", "sizes", "retires")}
    _save(path, [list(table.entries), list(table.pilots)], columns)


def load_slots(path: str) -> SlotTable:
    """The slots of a file. Raises ``OSError``,
    ``ValueError``, ``BadZipFile``."""
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as columns:
        entries, pilots = json.loads(columns[TEXTS].tobytes())
        return SlotTable(
            columns["entry"], columns["pilot"], columns["busy"], columns["open"], columns["sizes"],
            columns["retires"], tuple(entries), tuple(pilots),
        )  # fmt: skip


def _save(path: str, texts: object, columns: dict[str, npt.NDArray[np.generic]]) -> None:
    told = np.frombuffer(json.dumps(texts).encode(), np.uint8)
    with open(path, "wb") as file:
        np.savez(file, **{TEXTS: told}, **columns)  # type: ignore[arg-type]
