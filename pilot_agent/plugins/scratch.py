"""Where the workspace goes: the disk probe's verdicts, asked for before any other probe runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.probes.disk.scratch import CURRENT_DIRECTORY, ScratchChoice, choose_scratch, scratch_candidates


def choose(configured: Sequence[str], environment: Mapping[str, str], minimum_mib: int, *, here: bool) -> ScratchChoice:
    """The first directory that can hold a workspace, and why each one before it was refused. The current directory
    is a candidate only when ``here``: a pilot is started in its batch job's, a person anywhere."""
    candidates = scratch_candidates(configured, environment)
    wanted = [path for path, origin in candidates.items() if here or origin != CURRENT_DIRECTORY]
    return choose_scratch(wanted, minimum_mib)


def require(configured: Sequence[str], environment: Mapping[str, str], minimum_mib: int, *, here: bool) -> str:
    """The path of the directory that ``choose`` takes. Raises ``PilotError`` (scratch.none) naming every candidate that
    was refused, with its reason."""
    tried = choose(configured, environment, minimum_mib, here=here)
    if tried.chosen is not None:
        return tried.chosen.path
    listed = "; ".join(f"{verdict.path}: {verdict.reason}" for verdict in tried.refused)
    message = f"no directory can hold the workspace ({minimum_mib} MiB, writable, exec allowed): {listed}"
    hint = "free or allow one of them, or set site.scratch; the site must act"
    failure = Failure(FailureKind.NODE_RESOURCE, "scratch.none", message, hint, stage="configure", retry=True)
    raise PilotError(failure)
