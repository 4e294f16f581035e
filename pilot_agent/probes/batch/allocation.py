"""What the batch system gave this job on this node: the one reader of batch variables and files for all probes.

Only what each system documents is read. A variable alone proves little, as batch systems pass on the submitter's
environment; so a system counts when its own job identifier is there, HTCondor when its ad file is, and variables that
contradict the node count only where the process's control group or an ancestor of it speaks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilot_agent.probes.batch.batch_job import Allocation, Bound, Disbelieved
from pilot_agent.probes.node import Node

if TYPE_CHECKING:
    from pilot_agent.probes.batch.machine_job_features import Features

__all__ = ["Allocation", "Bound", "Survey", "batch_bounds", "read_allocations", "survey"]

Reader = Callable[[Node, Mapping[str, str]], Allocation | Disbelieved | None]


@dataclass(frozen=True, slots=True)
class Survey:
    """The batch systems this job runs under, the innermost first, those whose variables are not its own, and the
    features of machine and job that lie in directories (None without the variables that name them)."""

    allocations: tuple[Allocation, ...]
    disbelieved: tuple[Disbelieved, ...] = ()
    features: Features | None = None


def survey(node: Node, environment: Mapping[str, str]) -> Survey:
    """Look for every batch system. Files are read, nothing is run or fetched.

    HTCondor comes first: its ad file exists only while its slot does, and slots are made inside the jobs of other
    systems, never the other way round on a worker node. Features of machine and job come last, as they name no system.
    """
    found = [reader(node, environment) for reader in _readers(environment)]
    features = None
    if "MACHINEFEATURES" in environment or "JOBFEATURES" in environment:
        from pilot_agent.probes.batch.machine_job_features import features_allocation, read_features

        features = read_features(node, environment)
        found.append(features_allocation(features))
    return Survey(
        tuple(each for each in found if isinstance(each, Allocation)),
        tuple(each for each in found if isinstance(each, Disbelieved)),
        features,
    )


def _readers(environment: Mapping[str, str]) -> Iterator[Reader]:
    """The readers of the systems of which a variable is there, imported only then: most pilots run under one."""
    if "_CONDOR_MACHINE_AD" in environment or "_CONDOR_JOB_AD" in environment:
        from pilot_agent.probes.batch.htcondor import read_htcondor

        yield read_htcondor
    if "SLURM_JOB_ID" in environment or "SLURM_JOBID" in environment:
        from pilot_agent.probes.batch.slurm import read_slurm

        yield read_slurm
    if "PBS_JOBID" in environment:
        from pilot_agent.probes.batch.pbs import read_pbs

        yield read_pbs
    if "LSB_JOBID" in environment:
        from pilot_agent.probes.batch.lsf import read_lsf

        yield read_lsf
    if "JOB_ID" in environment:
        from pilot_agent.probes.batch.sge import read_sge

        yield read_sge


def read_allocations(node: Node, environment: Mapping[str, str]) -> tuple[Allocation, ...]:
    """What all that speaks for this job says, the innermost batch system first; empty when there is nothing."""
    return survey(node, environment).allocations


def batch_bounds(allocations: tuple[Allocation, ...], resource: str) -> Iterator[Bound]:
    """What all batch systems around this job allow of ``cores`` or ``memory_mib``."""
    for allocation in allocations:
        yield from allocation.cores if resource == "cores" else allocation.memory_mib
