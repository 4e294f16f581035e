"""When a frontend counts as ready, and when it does not."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest

from server_stub.frontend.doors import application
from server_stub.frontend.figures import Figures
from server_stub.frontend.told import CycleTold, FactoryTold

FACTORY = FactoryTold("east", "https://factory.example.org", "fresh", 0.0)


def told(**changed: Any) -> CycleTold:
    given: dict[str, Any] = {
        "frontend": "example-vo", "cycle": 1, "at": time.time(), "sequence": 1, "seconds": {"cycle": 1.0},
        "frozen": "", "frozen_cycles": 0, "missing": {}, "closed": {}, "given_up": (), "idle_jobs": 0,
        "unmatched_jobs": 0, "unserved_jobs": 0, "groups": 0, "slots": 0, "idle_slots": 0, "factories": (FACTORY,),
        "entries": (),
    }  # fmt: skip
    return CycleTold(**{**given, **changed})


def ready(last: CycleTold | None, *, running_seconds: float = 0.0) -> tuple[int, list[str]]:
    figures = Figures()
    if last is not None:
        figures.tell(last)
    app = application(figures, frozen_cycles=3, began=time.time() - running_seconds)

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            return await client.get("/health/ready")

    answer = asyncio.run(ask())
    return answer.status_code, answer.json()["problems"]


def test_who_ended_a_cycle_lately_is_ready_and_so_is_who_just_began() -> None:
    assert ready(told()) == (200, [])
    assert ready(None) == (200, [])
    assert ready(told(frozen="ap1 (away)", frozen_cycles=3)) == (200, [])


@pytest.mark.parametrize(
    ("last", "problem"),
    [
        ({"at": 1000.0}, "the last cycle began"),
        ({"frozen": "ap1 (away)", "frozen_cycles": 4}, "nothing is decided for 4 cycles: ap1 (away)"),
        ({"factories": (FactoryTold("east", "", "none", 9e9),)}, "no factory has offered anything"),
        (None, "no cycle has ended yet"),
    ],
)
def test_who_cannot_do_its_work_is_not_ready_and_says_why(last: dict[str, Any] | None, problem: str) -> None:
    status, problems = ready(None if last is None else told(**last), running_seconds=1000)
    assert status == 503
    assert problems[0].startswith(problem)
