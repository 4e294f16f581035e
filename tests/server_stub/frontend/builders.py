"""Groups, entries and tables with what a test says and otherwise ordinary values."""

from __future__ import annotations

from typing import Any

from server_stub.frontend.groups import JobGroup
from server_stub.frontend.jobs import Demand, JobRecord
from server_stub.frontend.offers import Offer
from server_stub.frontend.slots import SlotRecord

NOW = 1_800_000_000
DEMAND = Demand(1, 2000, 0, 0, 3600, False, "")


def demand(**changed: Any) -> Demand:
    return DEMAND._replace(**changed)


def record(since: int = NOW, **changed: Any) -> JobRecord:
    return JobRecord(since, *demand(**changed))


def group(idle: int = 10, old: int = 0, **changed: Any) -> JobGroup:
    return JobGroup(demand(**changed), idle, old)


def offer(name: str = "e", **changed: Any) -> Offer:
    return Offer(name, **{"cores": 8, "memory_mib": 16000, **changed})


def slot(entry: str = "e", pilot: str = "p", **changed: Any) -> SlotRecord:
    whole = SlotRecord(
        entry, pilot, busy=False, open=True, cores=8, memory_mib=16000, disk_mib=10000, gpus=0, retires=0
    )
    return whole._replace(**{"retires": NOW + 86400, **changed})
