"""Where the workspace goes: the disk probe's verdicts, asked for before any other probe runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pilot_agent.probes.disk.scratch import CURRENT_DIRECTORY, ScratchChoice, choose_scratch, scratch_candidates


def choose(configured: Sequence[str], environment: Mapping[str, str], minimum_mib: int, *, here: bool) -> ScratchChoice:
    """The first directory that can hold a workspace, and why each one before it was refused. The current directory
    is a candidate only when ``here``: a pilot is started in its batch job's, a person anywhere."""
    candidates = scratch_candidates(configured, environment)
    wanted = [path for path, origin in candidates.items() if here or origin != CURRENT_DIRECTORY]
    return choose_scratch(wanted, minimum_mib)
