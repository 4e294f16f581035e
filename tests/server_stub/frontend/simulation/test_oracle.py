"""The oracle pays what can be foreseen, and no more."""

from __future__ import annotations

import pytest

from server_stub.frontend.simulation.oracle import oracle_core_seconds
from server_stub.frontend.simulation.scenario import Site
from server_stub.frontend.simulation.world import Job, Run
from tests.server_stub.frontend.builders import record

SITE = Site("a", cores=2, start_seconds=10)


def run(began: float, ended: float, *, cores: int = 1, good: bool = True, preempted: bool = False) -> Run:
    job = Job(0, cores, 1000, 0, ended - began, 0, record(), 0.0)
    return Run(0, job, began, ended, good, preempted)


@pytest.mark.parametrize(
    ("runs", "pilot_seconds"),
    [
        ([run(0, 100)], 110),
        ([run(0, 100), run(0, 60)], 110),  # beside each other
        ([run(0, 100), run(0, 60), run(60, 90)], 110),  # after each other
        ([run(0, 100), run(105, 200)], 210),  # kept, as a start costs more
        ([run(0, 100), run(120, 200)], 200),  # a new one, as waiting costs more
        ([run(0, 100, cores=2), run(0, 100)], 220),  # no room
        ([run(0, 100), run(50, 60, good=False)], 110),  # no black hole
        ([run(50, 60, good=False, preempted=True)], 20),  # but what sites do
        ([], 0),
    ],
)
def test_the_bill(runs: list[Run], pilot_seconds: float) -> None:
    assert oracle_core_seconds(runs, [SITE]) == pilot_seconds * SITE.cores


def test_no_pilot_lives_longer_than_its_site_allows() -> None:
    short = Site("a", cores=1, start_seconds=10, walltime_seconds=150)
    assert oracle_core_seconds([run(0, 100), run(100, 200)], [short]) == 220
