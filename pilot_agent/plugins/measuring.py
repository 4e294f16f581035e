"""Benchmarks as the stages and the keeper's children run them: what is behind the hook, joined for its callers."""

from __future__ import annotations

from pilot_agent.benchmarks.answers import median, spread_of
from pilot_agent.benchmarks.job import Job, Measured
from pilot_agent.benchmarks.measuring import measure
from pilot_agent.containers.inside import never_ran
from pilot_agent.process import Result

__all__ = ["Job", "Measured", "explain", "measure", "median", "spread_of"]


def explain(result: Result) -> str:
    """Why the container runtime did not run a program; empty when it did."""
    failure = never_ran(result)
    return failure.message if failure is not None else ""
