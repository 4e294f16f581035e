"""What a simulation came to: jobs, waits, pilots, and what was paid for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from server_stub.frontend.simulation.oracle import oracle_core_seconds
from server_stub.frontend.simulation.run import Moment, Simulation


@dataclass(frozen=True, slots=True)
class Waste:
    """Core-seconds of pilots in which no job did any good, by their reason: pilots starting, jobs that failed or were
    lost with their pilot, and cores without a job."""

    starting: float
    lost_jobs: float
    idle: float


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures of a run; times in seconds, waste and cost in core-seconds.

    ``over_oracle`` is the part by which the pilots cost more than the oracle's. ``sign_changes`` is how often the sum
    of the requests turned from rising to falling or back. ``left`` counts jobs and pilots that were there at the end.
    """

    seconds: float
    jobs: int
    jobs_done: int
    longest_wait: float
    mean_wait: float
    pilots: int
    most_new_pilots: int
    sign_changes: int
    paid: float
    useful: float
    waste: Waste
    oracle: float
    over_oracle: float
    left: int


def figures(simulation: Simulation) -> Figures:
    """The figures of a simulation that has ended."""
    world, moments = simulation.world, simulation.moments
    sites = simulation.scenario.sites
    pilots = [*world.ended, *(pilot for pilots in world.running for pilot in pilots)]
    paid = sum(((p.ended if p.ended >= 0 else world.now) - p.began) * p.cores for p in pilots)
    starting = sum(
        ((p.ready if p.ready >= 0 else p.ended if p.ended >= 0 else world.now) - p.began) * p.cores for p in pilots
    )
    useful = sum((run.ended - run.began) * run.job.cores for run in world.runs if run.good)
    lost = sum((run.ended - run.began) * run.job.cores for run in world.runs if not run.good)
    running = sum((world.now - job.began) * job.cores for p in pilots if p.ended < 0 for job in p.jobs)
    oracle = oracle_core_seconds(world.runs, sites)
    waits = [run.began - run.job.arrived for run in world.runs if run.good]
    waits += [world.now - job.arrived for jobs in world.waiting for job in jobs]
    return Figures(
        seconds=world.now,
        jobs=world.arrivals,
        jobs_done=world.done,
        longest_wait=max(waits, default=0.0),
        mean_wait=sum(waits) / len(waits) if waits else 0.0,
        pilots=len(pilots),
        most_new_pilots=max((moment.new for moment in moments), default=0),
        sign_changes=sign_changes([moment.requested for moment in moments]),
        paid=paid,
        useful=useful,
        waste=Waste(starting, lost, paid - starting - lost - useful - running),
        oracle=oracle,
        over_oracle=paid / oracle - 1 if oracle else 0.0,
        left=_left(simulation),
    )


def _left(simulation: Simulation) -> int:
    world = simulation.world
    return world.arrivals - world.done + sum(map(len, world.queued)) + sum(map(len, world.running))


def sign_changes(values: Sequence[int]) -> int:
    """How often a series turns from rising to falling or back; standing still is neither."""
    steps = [later - earlier for earlier, later in zip([0, *values], values, strict=False)]
    signs = [step > 0 for step in steps if step]
    return sum(one is not other for one, other in pairwise(signs))


def series(moments: Sequence[Moment]) -> dict[str, list[float]]:
    """The moments as columns, for plots and ``--json``."""
    names = [name for name in Moment.__dataclass_fields__ if name != "at"]
    return {name: [float(getattr(moment, name)) for moment in moments] for name in names}
