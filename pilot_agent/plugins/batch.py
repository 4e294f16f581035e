"""Whether a batch system runs this pilot, asked before and without any probe, and what follows for a failed one."""

from __future__ import annotations

from collections.abc import Mapping

from pilot_agent.probes.batch.allocation import read_allocations
from pilot_agent.probes.node import Node

BATCH_HOLD_SECONDS = 1200


def hold_seconds(configured: int | None, environment: Mapping[str, str]) -> int:
    """How long a failed pilot keeps its slot: as configured, else 1200 s inside a job of any batch system that the
    batch probe knows, and not at all elsewhere (design section 6)."""
    if configured is not None:
        return configured
    in_job = any(allocation.names_job for allocation in read_allocations(Node("/"), environment))
    return BATCH_HOLD_SECONDS if in_job else 0
