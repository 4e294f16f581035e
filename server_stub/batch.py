"""What the factory needs of a batch system, and what that says of a job; ``condor.system`` has the real one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pilot_agent.model import PilotError
from server_stub.factory.pilots import JobId, PilotState


@dataclass(frozen=True, slots=True)
class BatchJob:
    """A job as the batch system tells it.

    ``exit_code`` is 128+N when signal N ended it, None while unknown. ``reason`` is why it is held, with HTCondor's
    ``hold_code`` and ``hold_subcode`` (0 while it is not) and ``holds``, how often it was. ``since`` is when it came to
    this state, epoch seconds (0 when unknown). Of a job that HTCondor hands to another batch system, ``grid_job`` is
    its number there, empty until the site has taken it, and ``grid_state`` the site's own word for its state.
    ``leaving`` is one that is being removed and still in the queue. ``pilot`` is whose job it is.
    Since ``silent_since`` (0 for never) its site does not answer HTCondor.
    """

    state: PilotState
    host: str = ""
    exit_code: int | None = None
    reason: str = ""
    hold_code: int = 0
    hold_subcode: int = 0
    holds: int = 0
    since: float = 0.0
    grid_job: str = ""
    grid_state: str = ""
    leaving: bool = False
    pilot: str = ""
    silent_since: float = 0.0


class BatchSystem(Protocol):
    """What the factory needs of a batch system. Everything but ``schedd`` raises ``PilotError`` (batch.failed) when it
    is not answered; then nothing may be concluded about any job."""

    def submit(self, description: str) -> JobId:
        """Hand in the job that the submit description at this path describes."""
        ...

    def submit_all(self, descriptions: Sequence[str]) -> list[JobId | PilotError]:
        """Hand in many at once; for each, in this order, its job or why it was refused. Raises ``PilotError`` only when
        nothing at all is known of them."""
        ...

    def schedd(self) -> str:
        """The name of the access point that takes the jobs; empty when it does not tell it."""
        ...

    def queue(self, factory: str) -> dict[JobId, BatchJob]:
        """The factory's jobs that are in the queue."""
        ...

    def ended(self, jobs: Sequence[JobId]) -> Mapping[JobId, BatchJob]:
        """Those of the jobs that left the queue, as far as the batch system knows them (yet)."""
        ...

    def remove(self, jobs: Sequence[JobId], reason: str) -> int:
        """Have the jobs removed, at the site too; how many of them it took on. They stay in the queue (``leaving``)
        until the site has let them go."""
        ...

    def forget(self, jobs: Sequence[JobId], reason: str) -> int:
        """Drop jobs from the queue whatever the site says; only for those whose removal does not end."""
        ...

    def release(self, jobs: Sequence[JobId], reason: str) -> int:
        """Let held jobs be tried again; how many of them."""
        ...
