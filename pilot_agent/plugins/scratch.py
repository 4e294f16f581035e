"""Where the workspace goes: the disk probe's verdicts, asked for before any other probe runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pilot_agent.probes.scratch import ScratchChoice, choose_scratch, scratch_candidates


def choose(configured: Sequence[str], environment: Mapping[str, str], minimum_mib: int) -> ScratchChoice:
    """The first directory that can hold a workspace, and why each one before it was refused."""
    return choose_scratch(scratch_candidates(configured, environment), minimum_mib)
