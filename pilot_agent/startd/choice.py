"""Which HTCondor a pilot runs, and what became of the others that it looked at: part of its report."""

from __future__ import annotations

from dataclasses import dataclass

from pilot_agent.model import Failure, PilotError


@dataclass(frozen=True, slots=True)
class CondorVerdict:
    """What became of one HTCondor that was looked for: ``source`` is directory, path, cvmfs or tarball, ``place`` where
    it lies or what was searched, ``reason`` why it was not taken."""

    source: str
    place: str
    version: str
    taken: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CondorChoice:
    """Which HTCondor the pilot runs, and why not another. ``release`` is its directory; ``sha256`` the digest of the
    tarball that it was unpacked from. All but ``why`` are empty where none was found."""

    source: str = ""
    place: str = ""
    version: str = ""
    release: str = ""
    sha256: str = ""
    seconds: float = 0.0
    why: tuple[CondorVerdict, ...] = ()


class NoCondorError(PilotError):
    """No HTCondor can be run on this node; ``choice`` says what was looked at."""

    def __init__(self, failure: Failure, choice: CondorChoice) -> None:
        super().__init__(failure)
        self.choice = choice
