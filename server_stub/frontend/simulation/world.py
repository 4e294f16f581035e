"""The simulated sites and jobs: pilots wait, start, take jobs, are preempted, fail and leave.

Events happen at their own times. The pool gives a job to a slot when either becomes free, the fullest pilot that fits
first, so that others become empty.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from server_stub.frontend.jobs import Demand, JobRecord
from server_stub.frontend.simulation.scenario import Load, Scenario, Site

EPOCH = 1_800_000_000
"""The clock of a simulation begins here: jobs and pilots speak in seconds since 1970."""
BAD_JOB_SECONDS = 60.0
BAD_JOBS_UNTIL_CLOSED = 3
"""A pilot in which so many jobs in a row failed at once takes no more (GlideinWMS's protection from black holes)."""


@dataclass(slots=True, eq=False)
class Job:
    """One job; ``kind`` is its place in the scenario's load."""

    kind: int
    cores: int
    memory_mib: int
    gpus: int
    seconds: float
    stated_seconds: int
    record: JobRecord
    arrived: float
    began: float = -1.0


@dataclass(slots=True, eq=False)
class Pilot:
    """One pilot; ``ready`` is when it joined the pool, negative before."""

    site: int
    cores: int
    memory_mib: int
    gpus: int
    asked: float
    began: float = -1.0
    ready: float = -1.0
    ended: float = -1.0
    dies: float = 0.0
    free_since: float = 0.0
    bad_jobs: int = 0
    jobs: dict[Job, float] = field(default_factory=dict)

    @property
    def takes_jobs(self) -> bool:
        """Whether it is in the pool and not closed."""
        return self.ready >= 0 and self.ended < 0 and self.bad_jobs < BAD_JOBS_UNTIL_CLOSED


@dataclass(slots=True)
class Run:
    """One execution of a job: where and when, and whether it came to its end (``good``), or else was ended with its
    pilot (``preempted``)."""

    site: int
    job: Job
    began: float
    ended: float
    good: bool
    preempted: bool = False


class World:
    """Everything that is simulated. ``now`` is in seconds since the scenario's beginning."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.now = 0.0
        self.waiting: list[deque[Job]] = [deque() for _ in scenario.load]
        self.queued: list[list[Pilot]] = [[] for _ in scenario.sites]
        self.running: list[list[Pilot]] = [[] for _ in scenario.sites]
        self.ended: list[Pilot] = []
        self.runs: list[Run] = []
        self.arrivals = 0
        self.pilot_ends: list[tuple[int, bool]] = []
        self.start_delays: list[tuple[int, float]] = []
        self._chance = random.Random(scenario.seed)  # noqa: S311 - the same scenario goes the same way
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        for kind, load in enumerate(scenario.load):
            for turn in range(load.times):
                self._at(load.at + turn * load.every, lambda kind=kind, load=load: self._arrive(kind, load))  # type: ignore[misc]
                self.arrivals += load.jobs

    def advance(self, until: float) -> None:
        """Let everything happen up to that time."""
        while self._events and self._events[0][0] <= until:
            self.now, _, happen = heapq.heappop(self._events)
            happen()
        self.now = until

    def over(self) -> bool:
        """Whether no job is left and no pilot."""
        return self.done == self.arrivals and not any(self.queued) and not any(self.running)

    @property
    def done(self) -> int:
        """Jobs that came to their end."""
        return sum(run.good for run in self.runs)

    def submit(self, site: int, count: int) -> None:
        """The factory hands pilots to a site."""
        about = self.scenario.sites[site]
        for _ in range(count):
            pilot = Pilot(site, about.cores, about.memory_mib, about.gpus, self.now)
            self.queued[site].append(pilot)
            self._at(self.now + about.queue_seconds * self._chance.uniform(0.5, 1.5), lambda p=pilot: self._turn(p))  # type: ignore[misc]

    def remove_queued(self, site: int, count: int) -> None:
        """The factory takes pilots out of a site's queue, the newest first."""
        for pilot in [self.queued[site].pop() for _ in range(min(count, len(self.queued[site])))]:
            pilot.ended = self.now

    def remove_idle(self, site: int) -> None:
        """The factory ends the pilots of a site that run no job."""
        for pilot in [pilot for pilot in self.running[site] if pilot.ready >= 0 and not pilot.jobs]:
            self._leave(pilot)

    def _at(self, when: float, happen: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, happen))

    def _arrive(self, kind: int, load: Load) -> None:
        for _ in range(load.jobs):
            demand = Demand(load.cores, load.memory_mib, 0, load.gpus, load.stated_seconds, False, "", (load.country,))
            seconds = load.seconds * self._chance.uniform(1 - load.spread, 1 + load.spread)
            record = JobRecord(EPOCH + int(self.now), *demand)
            self.waiting[kind].append(
                Job(kind, load.cores, load.memory_mib, load.gpus, seconds, load.stated_seconds, record, self.now)
            )
        self.negotiate()

    def _turn(self, pilot: Pilot) -> None:
        """A queued pilot's turn has come; it begins as soon as the site has room."""
        about = self.scenario.sites[pilot.site]
        if pilot.ended >= 0:
            return
        if len(self.running[pilot.site]) >= about.most_pilots:
            self._at(self.now + max(about.queue_seconds / 4, 60.0), lambda: self._turn(pilot))
            return
        self.queued[pilot.site].remove(pilot)
        self.running[pilot.site].append(pilot)
        pilot.began, pilot.dies = self.now, self.now + about.walltime_seconds
        self._at(self.now + about.start_seconds, lambda: self._join(pilot, about))
        if about.preempted_per_day > 0:
            life = self._chance.expovariate(about.preempted_per_day / 86400)
            self._at(self.now + life, lambda: self._leave(pilot))

    def _join(self, pilot: Pilot, about: Site) -> None:
        if pilot.ended >= 0:
            return
        failed = self._chance.random() < about.failure
        self.pilot_ends.append((pilot.site, failed))
        if failed:
            self._leave(pilot)
            return
        pilot.ready = self.now
        self.start_delays.append((pilot.site, self.now - pilot.asked))
        self._at(pilot.dies, lambda: self._leave(pilot))
        self._free(pilot)
        self.negotiate()

    def negotiate(self) -> None:
        """Give waiting jobs to slots: the jobs of each kind in their order, those that wait longest first."""
        kinds = [kind for kind, jobs in enumerate(self.waiting) if jobs]
        for kind in sorted(kinds, key=lambda kind: self.waiting[kind][0].arrived):
            pilots = [pilot for pilots in self.running for pilot in pilots if pilot.takes_jobs]
            pilots.sort(key=self._room)
            for pilot in pilots:
                while self.waiting[kind] and self._fits(pilot, self.waiting[kind][0]):
                    self._begin(pilot, self.waiting[kind].popleft())
                if not self.waiting[kind]:
                    break

    @staticmethod
    def _room(pilot: Pilot) -> int:
        return pilot.cores - sum(job.cores for job in pilot.jobs)

    def _fits(self, pilot: Pilot, job: Job) -> bool:
        memory = pilot.memory_mib - sum(other.memory_mib for other in pilot.jobs)
        gpus = pilot.gpus - sum(other.gpus for other in pilot.jobs)
        in_time = pilot.dies - self.now >= job.stated_seconds
        return in_time and self._room(pilot) >= job.cores and memory >= job.memory_mib and gpus >= job.gpus

    def _begin(self, pilot: Pilot, job: Job) -> None:
        about = self.scenario.sites[pilot.site]
        bad = about.black_hole_from <= self.now < about.black_hole_until
        job.began = self.now
        ends = self.now + (BAD_JOB_SECONDS if bad else job.seconds)
        pilot.jobs[job] = ends
        self._at(ends, lambda: self._end(pilot, job, ends, good=not bad))

    def _end(self, pilot: Pilot, job: Job, ends: float, *, good: bool) -> None:
        if pilot.jobs.get(job) != ends:
            return
        del pilot.jobs[job]
        self._ran(pilot, job, good)
        pilot.bad_jobs = 0 if good else pilot.bad_jobs + 1
        self._free(pilot)
        self.negotiate()

    def _ran(self, pilot: Pilot, job: Job, good: bool, preempted: bool = False) -> None:
        self.runs.append(Run(pilot.site, job, job.began, self.now, good, preempted))
        if not good:
            self.waiting[job.kind].append(job)

    def _free(self, pilot: Pilot) -> None:
        """Without any job a pilot leaves after a while."""
        if pilot.jobs:
            return
        pilot.free_since = since = self.now
        idle = self.scenario.sites[pilot.site].idle_seconds

        def leave() -> None:
            if not pilot.jobs and pilot.free_since == since:
                self._leave(pilot)

        self._at(self.now + idle, leave)

    def _leave(self, pilot: Pilot) -> None:
        """The pilot ends now; what runs in it is lost."""
        if pilot.ended >= 0:
            return
        pilot.ended = self.now
        self.running[pilot.site].remove(pilot)
        self.ended.append(pilot)
        for job in list(pilot.jobs):
            self._ran(pilot, job, good=False, preempted=True)
        pilot.jobs.clear()
