"""CVMFS going away and coming back: each repository that the pilot found is looked at now and then by a short-lived
child (``cvmfs.looking``). One that does not answer in time is down, as is one whose client died or cannot serve it."""

from __future__ import annotations

import time

from pilot_agent.lifecycle.cvmfs_remount import Remount
from pilot_agent.lifecycle.cvmfs_repository import Repository
from pilot_agent.lifecycle.question import Question
from pilot_agent.light import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot_agent.events import EventLog
    from pilot_agent.lifecycle.acceptance import Acceptance
    from pilot_agent.lifecycle.channel import AdChannel
    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.lifecycle.plan import CvmfsPlan

DOWN_ATTRIBUTE = "PilotCvmfsDown"
"""Repositories that answered when the pilot began and do not now, separated by blanks; undefined without. START is
closed for jobs whose image lies in one, or that say that they need one."""
STALE_ATTRIBUTE = "PilotCvmfsStale"
"""Repositories that answer and whose content may be old or incomplete, separated by blanks; undefined without."""
REQUIRED_DOWN = "CVMFS"
"""Why no job is taken: a repository that VO or site require is down."""
REASON_LIMIT = 200
COMPARISON_SECONDS = 40.0
"""More than the child gives itself for connecting and for reading."""


class CvmfsWatch:
    """Looks at each repository every period, spread over it, from its making on."""

    __slots__ = ("_acceptance", "_channel", "_events", "_loop", "_plan", "_remount", "_repositories")

    def __init__(
        self, plan: CvmfsPlan, loop: Loop, channel: AdChannel, events: EventLog, acceptance: Acceptance
    ) -> None:
        self._plan = plan
        self._loop = loop
        self._channel = channel
        self._events = events
        self._acceptance = acceptance
        self._repositories = [Repository(name, plan.revisions.get(name, 0)) for name in plan.repositories]
        self._remount = Remount(plan, loop, events)
        absent = [Repository(name) for name in plan.absent]
        if plan.advertised:
            channel.note({f"HAS_CVMFS_{each.ad_name}": False for each in absent})
            for each in self._repositories:
                channel.note({f"HAS_CVMFS_{each.ad_name}": True, **each.attributes()})
        for index, each in enumerate(self._repositories):
            question = self._question(each)
            first = plan.period_seconds * (index + 1) / len(self._repositories)
            loop.call_later(first, self._asking(question, plan.period_seconds))
            if plan.compare:
                loop.call_later(first, self._asking(self._comparison(each), plan.compare_seconds))

    def _asking(self, question: Question, period_seconds: float) -> Any:
        """Ask it, now and every period."""

        def ask() -> None:
            self._loop.call_later(period_seconds, ask)
            question.ask()

        return ask

    def _question(self, repository: Repository) -> Question:
        return Question(
            self._loop,
            [*self._plan.command, f"{self._plan.mount_point}/{repository.name}"],
            self._plan.environment,
            self._plan.timeout_seconds,
            answered=lambda code, output: self._answered(repository, code, output),
            silent=lambda: self._silent(repository),
        )

    def _comparison(self, repository: Repository) -> Question:
        return Question(
            self._loop,
            [*self._plan.compare, f"{self._plan.mount_point}/{repository.name}"],
            self._plan.environment,
            COMPARISON_SECONDS,
            answered=lambda code, output: self._compared(repository, code, output),
            silent=lambda: None,
        )

    def _compared(self, repository: Repository, code: int | None, output: bytes) -> None:
        """That nobody answered says nothing of the repository: its own client tells when it has no server."""
        if code is None or repository.down:
            return
        was, stale = repository.state, repository.stale
        repository.published(_read(code, output), time.monotonic())
        self._changed(repository, was, stale)

    def _silent(self, repository: Repository) -> None:
        was = repository.state
        repository.silent(self._plan.timeout_seconds)
        self._changed(repository, was, repository.stale)

    def _answered(self, repository: Repository, code: int | None, output: bytes) -> None:
        if code is None:
            self._silent(repository)
            return
        was, stale = repository.state, repository.stale
        risen = repository.told(_read(code, output))
        if risen:
            so_far = repository.numbers["io_errors"]
            self._events.write("cvmfs.io_errors", repository=repository.name, more=risen, so_far=so_far)
        self._changed(repository, was, stale)

    def _changed(self, repository: Repository, was: str, stale: str) -> None:
        """Tell what is another than before."""
        name, reason = repository.name, repository.reason[:REASON_LIMIT]
        if repository.state != was and repository.down:
            repair = self._remount.repair(repository.state)
            self._events.write("cvmfs.down", repository=name, state=repository.state, reason=reason, repair=repair)
        elif repository.state != was:
            self._events.write("cvmfs.back", repository=name)
        if bool(repository.stale) != bool(stale):
            extra = {"reason": repository.stale} if repository.stale else {}
            self._events.write("cvmfs.stale" if repository.stale else "cvmfs.fresh", repository=name, **extra)
        self._tell(repository)
        self._remount.seen(name, repository.state)

    def _tell(self, repository: Repository) -> None:
        down = [each.name for each in self._repositories if each.down]
        stale = [each.name for each in self._repositories if each.stale and not each.down]
        state: dict[str, Any] = {DOWN_ATTRIBUTE: " ".join(sorted(down)) or None}
        values: dict[str, Any] = {STALE_ATTRIBUTE: " ".join(sorted(stale)) or None}
        if self._plan.advertised:
            # Two names may differ in a dot and a hyphen alone, which attributes cannot have.
            same = [each.down for each in self._repositories if each.ad_name == repository.ad_name]
            state[f"HAS_CVMFS_{repository.ad_name}"] = not any(same)
            values |= repository.attributes()
        self._channel.update(values, state=False)
        self._channel.update(state)
        if set(down).intersection(self._plan.required):
            self._acceptance.refuse(REQUIRED_DOWN)
        else:
            self._acceptance.accept(REQUIRED_DOWN)


def _read(code: int, output: bytes) -> dict[str, Any]:
    """The child's answer. One that is none is a repository that cannot be looked at."""
    try:
        answer = loads(output)
        if code == 0 and isinstance(answer, dict):
            return answer
    except ValueError:
        pass
    lines = output.decode("utf-8", "replace").splitlines()
    reason = lines[-1] if lines else f"cannot be looked at (exit code {code})"
    return {"state": "unreadable", "reason": reason}
