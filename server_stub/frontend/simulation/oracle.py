"""What the same jobs at the same times would have cost somebody who knew the future.

Pilots appear when their first job begins and are gone with their last one. Each job goes where it makes the bill grow
least, with all ends known: into a pilot that is there anyway, into one that is kept a little longer, or into a new one
with the price of its start. Nobody can undo that a site preempts pilots, so the oracle pays for the jobs lost with
them; it asks for no pilot that fails, and for none in a black hole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from server_stub.frontend.simulation.scenario import Site
from server_stub.frontend.simulation.world import Run


@dataclass(slots=True)
class _Kept:
    began: float
    until: float
    jobs: list[tuple[float, int, int]] = field(default_factory=list)
    """(until when, how many cores, how many GPUs) are taken by jobs that were put in."""

    def takes(self, run: Run, site: Site) -> bool:
        """Whether a job fits beside those that were put in before it."""
        self.jobs = [job for job in self.jobs if job[0] > run.began]
        cores, gpus = (sum(job[number] for job in self.jobs) for number in (1, 2))
        return cores + run.job.cores <= site.cores and gpus + run.job.gpus <= site.gpus


def oracle_core_seconds(runs: Iterable[Run], sites: Sequence[Site]) -> float:
    """Core-seconds of pilots for all runs but those in black holes."""
    by_site: dict[int, list[Run]] = {}
    for run in runs:
        if run.good or run.preempted:
            by_site.setdefault(run.site, []).append(run)
    return sum(_of_site(found, sites[site]) * sites[site].cores for site, found in by_site.items())


def _of_site(runs: list[Run], site: Site) -> float:
    """Seconds of pilots."""
    open_pilots: list[_Kept] = []
    total = 0.0
    for run in sorted(runs, key=lambda run: (run.began, -run.ended)):
        new = site.start_seconds + run.ended - run.began
        open_pilots = [pilot for pilot in open_pilots if run.began - pilot.until < site.start_seconds]
        costs = [
            (max(run.ended - pilot.until, 0.0), -pilot.until, number)
            for number, pilot in enumerate(open_pilots)
            if pilot.takes(run, site) and run.ended - pilot.began <= site.walltime_seconds - site.start_seconds
        ]
        cost, _, number = min(costs, default=(new, 0.0, -1))
        if number < 0 or cost >= new:
            open_pilots.append(_Kept(run.began, run.ended, [(run.ended, run.job.cores, run.job.gpus)]))
            total += new
            continue
        pilot = open_pilots[number]
        pilot.until = max(pilot.until, run.ended)
        pilot.jobs.append((run.ended, run.job.cores, run.job.gpus))
        total += cost
    return total
