"""The batch system over HTCondor: local pools and, through HTCondor's grid universe, all the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pilot_agent.model import Json, PilotError
from server_stub.batch import BatchJob
from server_stub.condor.ads import ATTRIBUTES, parse_ad
from server_stub.condor.asking import DEADLINE_SECONDS, ask, failed
from server_stub.factory.pilots import JobId, PilotState

SUBMISSION_SECONDS = 5.0
"""So much longer the bindings may take for each further job of one submission."""
AT_ONCE = 200
"""Of so many jobs one question is."""


@dataclass(frozen=True, slots=True)
class HTCondor:
    """The access point of that name, in the pool whose collector is at ``pool``; without a name this machine's."""

    name: str = ""
    pool: str = ""

    def submit(self, description: str) -> JobId:
        """See ``BatchSystem``."""
        (answer,) = self.submit_all([description])
        if isinstance(answer, PilotError):
            raise answer
        return answer

    def submit_all(self, descriptions: Sequence[str]) -> list[JobId | PilotError]:
        """See ``BatchSystem``."""
        if not descriptions:
            return []
        seconds = DEADLINE_SECONDS + SUBMISSION_SECONDS * (len(descriptions) - 1)
        answers = self._ask("submit", descriptions=list(descriptions), deadline_seconds=seconds)
        try:
            told = [_submitted(answer) for answer in answers]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise failed(f"submit answered something that is no list of jobs: {error!r}") from error
        if len(told) != len(descriptions):
            raise failed(f"submit answered {len(told)} jobs for {len(descriptions)} descriptions")
        return told

    def schedd(self) -> str:
        """See ``BatchSystem``. The schedd writes its ad to a file, by which HTCondor's own programs find it too.

        Nothing depends on the name: an access point that does not work is the submission's to tell.
        """
        if self.name:
            return self.name
        try:
            return str(self._ask("schedd"))
        except PilotError:
            return ""

    def queue(self, factory: str) -> dict[JobId, BatchJob]:
        """See ``BatchSystem``."""
        ads = self._ask("queue", constraint=f'PilotFactory == "{factory}"', attributes=list(ATTRIBUTES))
        return dict(_in_queue(job, told) for job, told in _jobs("queue", ads))

    def ended(self, jobs: Sequence[JobId]) -> Mapping[JobId, BatchJob]:
        """See ``BatchSystem``."""
        wanted = set(jobs)
        found: dict[JobId, BatchJob] = {}
        for some in _portions(sorted(wanted, key=str)):
            answer = self._ask("history", constraint=_constraint(some), attributes=list(ATTRIBUTES), most=len(some))
            found.update((job, told) for job, told in _jobs("history", answer) if job in wanted)
        return found

    def remove(self, jobs: Sequence[JobId], reason: str) -> int:
        """See ``BatchSystem``."""
        return self._act("Remove", jobs, reason)

    def forget(self, jobs: Sequence[JobId], reason: str) -> int:
        """See ``BatchSystem``."""
        return self._act("RemoveX", jobs, reason)

    def release(self, jobs: Sequence[JobId], reason: str) -> int:
        """See ``BatchSystem``."""
        return self._act("Release", jobs, reason)

    def _act(self, action: str, jobs: Sequence[JobId], reason: str) -> int:
        changed = 0
        for some in _portions(jobs):
            told = self._ask("act", action=action, jobs=[str(job) for job in some], reason=reason)
            if told.get("denied"):
                raise failed(f"the access point does not let this account {action.lower()} {told['denied']} jobs")
            changed += int(told["changed"])
        return changed

    def _ask(self, operation: str, *, deadline_seconds: float = DEADLINE_SECONDS, **question: Json) -> Any:
        place = {"schedd": self.name, "pool": self.pool}
        return ask(operation, {**place, **question}, deadline_seconds=deadline_seconds)


def _portions(jobs: Sequence[JobId]) -> Iterator[Sequence[JobId]]:
    return (jobs[first : first + AT_ONCE] for first in range(0, len(jobs), AT_ONCE))


def _submitted(answer: Any) -> JobId | PilotError:
    if "failed" in answer:
        return failed(f"submit: {answer['failed']}")
    return JobId(int(answer["cluster"]), int(answer["process"]))


def _in_queue(job: JobId, told: BatchJob) -> tuple[JobId, BatchJob]:
    """A job that is being removed or sends its output home is still in the queue, and has not ended."""
    if not told.state.final:
        return job, told
    return job, replace(told, state=PilotState.RUNNING, leaving=told.state is PilotState.REMOVED)


def _jobs(operation: str, ads: Json) -> Iterable[tuple[JobId, BatchJob]]:
    try:
        return [parse_ad(ad) for ad in ads]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise failed(f"{operation} answered something that is no list of jobs: {error!r}") from error


def _constraint(jobs: Iterable[JobId]) -> str:
    return " || ".join(f"(ClusterId == {job.cluster} && ProcId == {job.process})" for job in jobs)
