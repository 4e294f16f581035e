"""What the batch system around this pilot says, asked before and without any probe: whether there is one, which of
several pilots of one job this is, and what follows for a failed one."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pilot_agent.probes.batch.allocation import read_allocations
from pilot_agent.probes.node import Node

BATCH_HOLD_SECONDS = 1200
RANKS = (
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
)
"""What srun(1), Open MPI's mpiexec and those that speak PMI (MPICH, Intel MPI, Cray) say to each of their tasks: its
number, and of how many."""
PMIX_RANK = "PMIX_RANK"
"""The number alone: prterun(1) says no more in variables (seen with the one of Debian 13's Open MPI 5.0.7)."""


def own_output(directory: str, environment: Mapping[str, str]) -> str:
    """Where this pilot's output goes: ``directory``, or below it, where several tasks of one job are pilots that were
    all given the same one."""
    pairs = [(_number(environment, rank), _number(environment, size)) for rank, size in RANKS]
    told = [(rank, size) for rank, size in pairs if rank is not None and size is not None]
    number = next((rank for rank, size in told if size > 1), None)
    if number is None:
        number = _number(environment, PMIX_RANK)
        # srun(1) says that it is the only one, too, where it speaks PMIx.
        if number is None or (number == 0 and told):
            return directory
    return os.path.join(directory, f"rank-{number}")


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 10 else None


def hold_seconds(configured: int | None, environment: Mapping[str, str]) -> int:
    """How long a failed pilot keeps its slot: as configured, else 1200 s inside a job of any batch system that the
    batch probe knows, and not at all elsewhere (design section 6)."""
    if configured is not None:
        return configured
    in_job = any(allocation.names_job for allocation in read_allocations(Node("/"), environment))
    return BATCH_HOLD_SECONDS if in_job else 0
