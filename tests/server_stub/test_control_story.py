"""Whatever happens around a factory, its limits hold all the time, and in the end it has what was asked for."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from pilot_agent.model import Failure, FailureKind, PilotError
from server_stub.adopt import GIVEN_UP_SECONDS
from server_stub.batch import BatchJob
from server_stub.collect import collect
from server_stub.control import Controller
from server_stub.entries import Factory
from server_stub.factory import demand
from server_stub.factory.entry import Limits
from server_stub.factory.frontends import Frontend
from server_stub.factory.pilots import JobId, PilotState
from server_stub.factory.requests import Request, RequestSet, judge_set
from server_stub.factory.store import Store
from server_stub.factory.tables import Base
from server_stub.frontend.removal import Removal
from tests.server_stub.conftest import ScriptedBatch
from tests.server_stub.test_adopt import pilot_in

TOTAL, SEQUENCES = 12, itertools.count(1)


@dataclass
class World(ScriptedBatch):
    """A site: its jobs wait, begin and end as it is told; it may be away, or do what it was asked without answering."""

    alive: dict[JobId, BatchJob] = field(default_factory=dict)
    made: int = 0
    away: bool = False
    mute: bool = False

    def submit_all(self, descriptions: Sequence[str]) -> list[JobId | PilotError]:
        self._reach()
        jobs: list[JobId | PilotError] = []
        for description in descriptions:
            self.made += 1
            jobs.append(job := JobId(self.made, 0))
            self.alive[job] = BatchJob(PilotState.QUEUED, pilot=pilot_in(description))
        self._answered()
        return jobs

    def queue(self, factory: str) -> dict[JobId, BatchJob]:
        self._reach()
        return dict(self.alive)

    def ended(self, jobs: Sequence[JobId]) -> dict[JobId, BatchJob]:
        return {job: self.gone[job] for job in jobs if job in self.gone}

    def remove(self, jobs: Sequence[JobId], reason: str) -> int:
        self._reach()
        for job in jobs:
            if job in self.alive:
                self.gone[job] = BatchJob(PilotState.REMOVED)
                del self.alive[job]
        self._answered()
        return len(jobs)

    def begin(self, count: int) -> None:
        waiting = [job for job, told in self.alive.items() if told.state is PilotState.QUEUED]
        for job in waiting[:count]:
            self.alive[job] = replace(self.alive[job], state=PilotState.RUNNING)

    def end(self, count: int) -> None:
        running = [job for job, told in self.alive.items() if told.state is PilotState.RUNNING]
        for job in running[:count]:
            self.gone[job] = BatchJob(PilotState.ENDED, exit_code=0)
            del self.alive[job]

    def _reach(self) -> None:
        if self.away:
            raise PilotError(Failure(FailureKind.NETWORK, "batch.failed", "nobody there"))

    def _answered(self) -> None:
        if self.mute:
            raise PilotError(Failure(FailureKind.NETWORK, "batch.failed", "no answer in time"))


@dataclass
class Story:
    """A factory and its site, one step after the other. Time stands still but where a step lets it pass."""

    factory: Factory
    store: Store
    world: World = field(default_factory=World)
    now: float = field(default_factory=time.time)
    controller: Controller = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.controller = Controller(self.store, self.world, clock=lambda: self.now)

    def ask(self, frontend: int, queued: int, pilots: int, remove: Removal) -> None:
        who = self.factory.frontends[frontend]
        wanted = Request(entry="site-a", vo="v", queued=queued, pilots=pilots, remove=remove)
        asked = RequestSet(sequence=next(SEQUENCES), lifetime_seconds=86400, requests=[wanted])
        demand.take_set(self.store, who.name, asked, str(asked.sequence), judge_set(asked, who, self.factory))

    def round(self) -> None:
        observed: float | None = self.now
        try:
            collect(self.factory, self.store, self.world, now=self.now)
        except PilotError:
            observed = None
        self.controller.round(self.factory, observed=observed, now=self.now)
        names = Counter(told.pilot for told in self.world.alive.values())
        assert len(self.world.alive) <= TOTAL
        assert set(names.values()) <= {1}, "a pilot has two jobs"


COUNT = st.integers(1, 6)
STEPS = st.one_of(
    st.builds(
        lambda *asked: lambda story: story.ask(*asked),
        st.integers(0, 1), st.integers(0, 9), st.integers(0, 15), st.sampled_from(list(Removal)),
    ),
    COUNT.map(lambda count: lambda story: story.world.begin(count)),
    COUNT.map(lambda count: lambda story: story.world.end(count)),
    st.booleans().map(lambda away: lambda story: setattr(story.world, "away", away)),
    st.booleans().map(lambda mute: lambda story: setattr(story.world, "mute", mute)),
    st.just(lambda story: story.restart()),
    st.integers(10, 2000).map(lambda seconds: lambda story: setattr(story, "now", story.now + seconds)),
)  # fmt: skip


def tell(story: Story, steps: Sequence[Callable[[Story], object]]) -> None:
    for step in steps:
        step(story)
        story.round()
    story.world.away = story.world.mute = False
    for _ in range(12):
        story.now += GIVEN_UP_SECONDS
        story.round()


def judge(story: Story) -> None:
    """Everything that was asked for is there, or something that is told limits it; and both sides know the same."""
    there = demand.unfinished(story.store)
    for wanted in demand.wanted(story.store):
        held = there.get(wanted.key, demand.Held())
        lacks = wanted.queued > held.waiting and wanted.pilots > held.waiting + held.running
        assert wanted.limited_by or not lacks
        if wanted.remove is Removal.IDLE:
            assert held.waiting <= wanted.queued
    known = {pilot.job: pilot.id for pilot in story.store.pilots(unfinished=True)}
    assert known == {job: told.pilot for job, told in story.world.alive.items()}


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(STEPS, min_size=4, max_size=14))
def test_whatever_happens_limits_hold_and_in_the_end_all_is_as_asked_for(
    factory: Factory, store: Store, steps: list[Callable[[Story], object]], tmp_path: Path
) -> None:
    with store.write() as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(delete(table))
    entries = tuple(replace(entry, tokens=None, limits=Limits(total=TOTAL)) for entry in factory.entries)
    frontends = (Frontend("f", "", ("v",)), Frontend("g", "", ("v",)))
    story = Story(replace(factory, entries=entries, frontends=frontends), store)
    tell(story, steps)
    judge(story)
