"""Runs a scenario: the world goes on, and in every cycle the frontend looks at it and decides."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from server_stub.frontend.cycle import Decision, Memory, Settings, Snapshot, decide
from server_stub.frontend.jobs import job_table
from server_stub.frontend.offers import Offer, Outcomes
from server_stub.frontend.pressure import EntryState
from server_stub.frontend.removal import Removal
from server_stub.frontend.simulation.scenario import Scenario
from server_stub.frontend.simulation.world import BAD_JOB_SECONDS, EPOCH, Pilot, World
from server_stub.frontend.slots import SlotRecord, SlotTable, slot_table

REMEMBERED_SECONDS = 7200.0
"""How long ends of pilots and jobs count, less and less."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What was there at the end of one cycle; ``new`` pilots were handed to sites in it."""

    at: float
    jobs_waiting: int
    jobs_running: int
    pilots_queued: int
    pilots_starting: int
    pilots_busy: int
    pilots_idle: int
    requested: int
    new: int


@dataclass
class Simulation:
    """A scenario on its way: ``moments`` so far."""

    scenario: Scenario
    world: World = field(init=False)
    moments: list[Moment] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.world = World(self.scenario)
        self._settings: Settings = self.scenario.settings()
        self._memory = Memory()
        self._history = _History(self.world)

    def run(self) -> None:
        """To the end."""
        while not self.world.over() and self.world.now < self.scenario.most_seconds:
            self.step()

    def step(self) -> None:
        """One cycle."""
        scenario = self.scenario
        self.world.advance(self.world.now + scenario.cycle_seconds)
        self._history.look(scenario.cycle_seconds)
        snapshot = self._snapshot()
        decision = decide(snapshot, self._settings, self._memory)
        self._memory = decision.memory
        new = sum(self._obey(site, decision) for site in range(len(scenario.sites)))
        self.moments.append(self._moment(decision, new))

    def _snapshot(self) -> Snapshot:
        world = self.world
        lost = self.scenario.lost_from <= world.now < self.scenario.lost_until
        jobs = [] if lost else [job.record for jobs in world.waiting for job in jobs]
        return Snapshot(
            EPOCH + world.now,
            job_table({"ap": jobs}),
            _slots(world),
            [self._history.offer(site) for site in range(len(self.scenario.sites))],
            {
                site.name: EntryState(
                    len(world.queued[number]),
                    len(world.running[number]),
                    world.now - min((pilot.asked for pilot in world.queued[number]), default=world.now),
                )
                for number, site in enumerate(self.scenario.sites)
            },
            missing=("ap",) if lost else (),
            job_seconds=self._history.job_seconds,
        )

    def _obey(self, site: int, decision: Decision) -> int:
        """What a factory does with a request; how many pilots it submitted."""
        request, world = decision.requests[site], self.world
        queued = len(world.queued[site])
        if request.remove in (Removal.IDLE, Removal.WHOLE) and queued > request.queued:
            world.remove_queued(site, queued - request.queued)
        if request.remove is Removal.WHOLE:
            world.remove_idle(site)
        room = request.pilots - len(world.queued[site]) - len(world.running[site])
        count = max(min(request.queued - queued, room), 0)
        world.submit(site, count)
        return count

    def _moment(self, decision: Decision, new: int) -> Moment:
        pilots = [pilot for pilots in self.world.running for pilot in pilots]
        busy = sum(bool(pilot.jobs) for pilot in pilots)
        starting = sum(pilot.ready < 0 for pilot in pilots)
        return Moment(
            self.world.now,
            sum(map(len, self.world.waiting)),
            sum(len(pilot.jobs) for pilot in pilots),
            sum(map(len, self.world.queued)),
            starting,
            busy,
            len(pilots) - busy - starting,
            sum(request.queued for request in decision.requests),
            new,
        )


def _slots(world: World) -> SlotTable:
    """The ads of the pool: what is left of each pilot, and its running jobs."""
    records: list[SlotRecord] = []
    for number, pilots in enumerate(world.running):
        name = world.scenario.sites[number].name
        for pilot in pilots:
            if pilot.ready >= 0:
                records += _slots_of(pilot, name)
    return slot_table(records)


def _slots_of(pilot: Pilot, entry: str) -> list[SlotRecord]:
    name, dies = str(id(pilot)), EPOCH + int(pilot.dies)
    cores = pilot.cores - sum(job.cores for job in pilot.jobs)
    memory = pilot.memory_mib - sum(job.memory_mib for job in pilot.jobs)
    gpus = pilot.gpus - sum(job.gpus for job in pilot.jobs)
    taking = pilot.takes_jobs
    return [
        SlotRecord(entry, name, False, taking, cores, memory, 1 << 30, gpus, dies),
        *(SlotRecord(entry, name, True, taking, job.cores, job.memory_mib, 0, job.gpus, dies) for job in pilot.jobs),
    ]


class _History:
    """What the frontend has learned of each entry: how pilots and jobs ended, how long pilots take until jobs begin."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._counts = [[0.0, 0.0, 0.0, 0.0] for _ in world.scenario.sites]
        self._delays: list[float | None] = [None] * len(world.scenario.sites)
        self._runs = self._ends = self._starts = 0
        self.job_seconds: float | None = None

    def look(self, seconds: float) -> None:
        """Take note of what happened since the last look, so many seconds ago."""
        forget = math.exp(-seconds / REMEMBERED_SECONDS)
        for counts in self._counts:
            counts[:] = [count * forget for count in counts]
        for site, failed in self._world.pilot_ends[self._ends :]:
            self._counts[site][0] += 1
            self._counts[site][1] += failed
        for run in self._world.runs[self._runs :]:
            seconds = run.ended - run.began
            self._counts[run.site][2] += 1
            self._counts[run.site][3] += not run.good and seconds <= BAD_JOB_SECONDS
            if run.good:
                before = self.job_seconds if self.job_seconds is not None else seconds
                self.job_seconds = 0.95 * before + 0.05 * seconds
        for site, delay in self._world.start_delays[self._starts :]:
            known = self._delays[site]
            self._delays[site] = delay if known is None else 0.8 * known + 0.2 * delay
        self._runs, self._ends = len(self._world.runs), len(self._world.pilot_ends)
        self._starts = len(self._world.start_delays)

    def offer(self, number: int) -> Offer:
        """The entry as the frontend knows it now."""
        site = self._world.scenario.sites[number]
        delay = self._delays[number]
        return Offer(
            site.name,
            site.name,
            site.cores,
            site.memory_mib,
            gpus=site.gpus,
            walltime_seconds=site.walltime_seconds - int(site.start_seconds),
            attributes={"Country": site.country},
            outcomes=Outcomes(*(round(count) for count in self._counts[number])),
            benchmarks={"db12": site.benchmark} if site.benchmark else {},
            start_seconds=600.0 if delay is None else delay,
        )
