"""The batch system that runs this pilot, its name for the job, when the job ends, and its scratch directory."""

from __future__ import annotations

from collections.abc import Iterator

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, Finding
from pilot_agent.probes.allocation import read_allocations
from pilot_agent.probes.node import Node

LOOKED_FOR = "no variable of Slurm, PBS, Grid Engine or LSF and no HTCondor ad file was found"


def probe_batch(context: Context) -> Iterator[Finding]:
    """``batch.system`` (``none`` outside of one), ``batch.job_id``, ``batch.end_time`` (seconds since 1970) and
    ``batch.scratch``. Where systems are nested the innermost names the job, and the earliest end counts."""
    allocations = read_allocations(Node.of(context), context.environment)
    if not allocations:
        yield Fact("batch.system", "none", source="environment", detail=LOOKED_FOR)
        for name in ("job_id", "end_time", "scratch"):
            yield Fact.absent(f"batch.{name}", "no batch system runs this pilot")
        return
    inner = allocations[0]
    others = ", ".join(allocation.system for allocation in allocations[1:])
    yield Fact("batch.system", inner.system, source="environment", detail=f"inside {others}" if others else "")
    if inner.job_id:
        yield Fact("batch.job_id", inner.job_id, source=inner.system)
    else:
        yield Fact.unknown("batch.job_id", f"{inner.system} did not say it", source=inner.system)
    ends = [allocation.end_time for allocation in allocations if allocation.end_time]
    if ends:
        end = min(ends, key=lambda bound: bound.number)
        yield Fact("batch.end_time", end.number, "s", source=end.source)
    else:
        systems = " and ".join(allocation.system for allocation in allocations)
        yield Fact.unknown("batch.end_time", f"{systems} did not say when the job ends", source=inner.system)
    if inner.scratch:
        yield Fact("batch.scratch", inner.scratch, source=inner.system)
    else:
        yield Fact.absent("batch.scratch", f"{inner.system} gave no scratch directory", source=inner.system)
