"""The bench of services, cleared after each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pilot_agent.lifecycle.subreaper import become_subreaper
from pilot_agent.services.plan import ServicePlan
from tests.reaping import no_subreaper
from tests.services.bench import Bench, Kept


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Without services yet; this process has their orphans until they have ended."""
    become_subreaper()
    made = Bench(tmp_path)
    yield made
    made.end()
    no_subreaper()


@pytest.fixture
def keep(bench: Bench) -> Iterator[Callable[..., Kept]]:
    """Supervise services as the keeper does."""
    made: list[Kept] = []

    def begin(*plans: ServicePlan) -> Kept:
        made.append(Kept(bench, *plans))
        return made[-1]

    yield begin
    for one in made:
        one.close()
