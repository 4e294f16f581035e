"""What the factory says of a pilot: plain frozen classes, which the store writes and every page reads."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class PilotState(enum.StrEnum):
    """Where a pilot is on its way, as its batch job tells it."""

    PREPARED = "prepared"
    QUEUED = "queued"
    RUNNING = "running"
    HELD = "held"
    ENDED = "ended"
    REMOVED = "removed"
    REFUSED = "refused"
    LOST = "lost"

    @property
    def final(self) -> bool:
        """True when nothing more will come."""
        return self in FINAL


FINAL = frozenset({PilotState.ENDED, PilotState.REMOVED, PilotState.REFUSED, PilotState.LOST})
WAITING = (PilotState.PREPARED, PilotState.QUEUED)


@dataclass(frozen=True, slots=True)
class JobId:
    """A job of the batch system."""

    cluster: int
    process: int

    def __str__(self) -> str:
        return f"{self.cluster}.{self.process}"


@dataclass(frozen=True, slots=True)
class Pilot:
    """One pilot. Times are epoch seconds. ``exit_code`` is 128+N when signal N ended the job; ``outcome``,
    ``failure_kind``, ``failure_code``, ``message``, the seconds and the counts of jobs come from its report, ``report``
    says whether there is one; ``seen`` is when the pilot itself last said anything; ``missing_since`` is set while the
    batch system does not know the job. ``frontend`` asked for it, empty where a person did; ``grid_job`` is what the
    site's own batch system calls the job; ``started`` is when it was first seen running; ``jobs_failed`` counts the
    jobs that could not even be started on its node."""

    id: str
    entry: str
    site: str
    payload: str
    sha256: str
    state: PilotState
    submitted: float
    directory: str
    job: JobId | None = None
    ended: float | None = None
    missing_since: float | None = None
    exit_code: int | None = None
    host: str = ""
    outcome: str = ""
    failure_kind: str = ""
    failure_code: str = ""
    message: str = ""
    jobs_started: int | None = None
    report: bool = False
    vo: str = ""
    seen: float | None = None
    jobs_evicted: int | None = None
    validation_seconds: float | None = None
    busy_seconds: float | None = None
    idle_seconds: float | None = None
    frontend: str = ""
    grid_job: str = ""
    started: float | None = None
    jobs_failed: int | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """What the pilots of an entry scored in a benchmark on one model of processor, the smallest first."""

    benchmark: str
    unit: str
    entry: str
    cpu_model: str
    numbers: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """One result of one benchmark of one pilot."""

    benchmark: str
    unit: str
    number: float
    cpu_model: str = "unknown"
