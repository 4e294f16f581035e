"""CVMFS going away and coming back: each repository that the pilot found is listed now and then by a short-lived child.
One that does not answer in time is down."""

from __future__ import annotations

from pilot_agent.lifecycle.question import Question

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pilot_agent.events import EventLog
    from pilot_agent.lifecycle.channel import AdChannel
    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.lifecycle.plan import CvmfsPlan

DOWN_ATTRIBUTE = "PilotCvmfsDown"
"""Repositories that answered when the pilot began and do not now, separated by blanks; undefined without. START is
closed for jobs whose image lies in one, or that say that they need one."""
REASON_LIMIT = 200


class CvmfsWatch:
    """Looks at all repositories every period, from its making on."""

    __slots__ = ("_channel", "_down", "_events", "_loop", "_plan", "_questions")

    def __init__(self, plan: CvmfsPlan, loop: Loop, channel: AdChannel, events: EventLog) -> None:
        self._plan = plan
        self._loop = loop
        self._channel = channel
        self._events = events
        self._down: dict[str, str] = {}
        """Repository -> why."""
        self._questions = [self._question(repository) for repository in plan.repositories]
        if plan.repositories:
            loop.call_later(plan.period_seconds, self._look)

    def _look(self) -> None:
        self._loop.call_later(self._plan.period_seconds, self._look)
        for question in self._questions:
            question.ask()

    def _question(self, repository: str) -> Question:
        return Question(
            self._loop,
            [*self._plan.command, f"{self._plan.mount_point}/{repository}/"],
            self._plan.environment,
            self._plan.timeout_seconds,
            answered=lambda code, output: self._answered(repository, code, output),
            silent=lambda: self._set(repository, self._silence()),
        )

    def _silence(self) -> str:
        return f"does not answer within {self._plan.timeout_seconds:g} s"

    def _answered(self, repository: str, code: int | None, output: bytes) -> None:
        if code == 0:
            self._set(repository, "")
        elif code is None:
            self._set(repository, self._silence())
        else:
            lines = output.decode("utf-8", "replace").splitlines()
            self._set(repository, lines[-1][:REASON_LIMIT] if lines else f"cannot be listed (exit code {code})")

    def _set(self, repository: str, reason: str) -> None:
        """It answers when ``reason`` is empty; told when that changed."""
        if reason and repository not in self._down:
            self._down[repository] = reason
            self._events.write("cvmfs.down", repository=repository, reason=reason)
        elif not reason and self._down.pop(repository, None) is not None:
            self._events.write("cvmfs.back", repository=repository)
        else:
            return
        self._channel.update({DOWN_ATTRIBUTE: " ".join(sorted(self._down)) or None})
