"""Benchmarks beside the jobs: run by the keeper, one at a time and at the lowest priority, each in a process that keeps
it in its bounds; what they score reaches the ad through the one channel, and the report through a file."""

from __future__ import annotations

from pilot_agent.lifecycle.loop import Task
from pilot_agent.light import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pilot_agent.events import EventLog
    from pilot_agent.lifecycle.channel import AdChannel
    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.lifecycle.plan import PeriodicPlan

START_SECONDS = 5.0
"""The startd comes first."""


class Benchmarks:
    """Runs them from its making on; those with a period again so long after their last run began."""

    __slots__ = ("_channel", "_events", "_loop", "_running", "_waiting")

    def __init__(self, plans: Sequence[PeriodicPlan], loop: Loop, channel: AdChannel, events: EventLog) -> None:
        self._loop = loop
        self._channel = channel
        self._events = events
        self._waiting = list(plans)
        self._running = False
        if plans:
            loop.call_later(START_SECONDS, self._next)

    def _next(self) -> None:
        if self._running or not self._waiting:
            return
        plan = self._waiting.pop(0)
        self._running = True
        if plan.period_seconds:
            self._loop.call_later(plan.period_seconds, lambda: self._again(plan))
        Task(
            self._loop,
            plan.argv,
            plan.environment,
            plan.timeout_seconds,
            lambda code, output: self._ended(plan, code, output),
            both_outputs=False,
        )

    def _again(self, plan: PeriodicPlan) -> None:
        if plan not in self._waiting:
            self._waiting.append(plan)
        self._next()

    def _ended(self, plan: PeriodicPlan, code: int | None, output: bytes) -> None:
        self._running = False
        told = _told(output) if code == 0 else {}
        message = told.get("message") or ("" if told else f"its process ended with {code} and told nothing")
        self._events.write(
            "benchmark.ended",
            name=plan.name,
            status=told.get("status", "failed"),
            score=told.get("score"),
            unit=told.get("unit", ""),
            cached=told.get("cached") is True,
            message=message,
        )
        attributes = told.get("attributes")
        if isinstance(attributes, dict):
            self._channel.update(attributes, state=False)
        self._loop.call_later(0, self._next)


def _told(output: bytes) -> dict[str, Any]:
    try:
        told = loads(output)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
