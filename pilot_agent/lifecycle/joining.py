"""Find out whether the pilot came into its pool, and say who must act when it did not."""

from __future__ import annotations

import time

from pilot_agent.lifecycle import final_report
from pilot_agent.lifecycle.loop import Task
from pilot_agent.startd.join import classify, denied

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.lifecycle.plan import JoinPlan

FIRST_TRY_SECONDS = 1.5
"""Later than the slot's first ad, so that the daemons have the cores for themselves until then."""
LONGEST_TRY_SECONDS = 10.0


class JoinCheck:
    """Tries the plan's commands in turn until one succeeds (``joined()``), or until the time is over or every collector
    has denied the token what it needs (``failed(problem)``)."""

    def __init__(
        self,
        plan: JoinPlan,
        loop: Loop,
        joined: Callable[[], None],
        failed: Callable[[dict[str, Any]], None],
    ) -> None:
        self._plan = plan
        self._loop = loop
        self._joined = joined
        self._failed = failed
        self._end = time.monotonic() + plan.seconds
        self._turn = 0
        self._denied = 0
        """Tries in a row in which a collector refused the token's rights."""
        loop.call_later(min(FIRST_TRY_SECONDS, plan.seconds), self._try)

    def _try(self) -> None:
        seconds = max(1.0, min(LONGEST_TRY_SECONDS, self._end - time.monotonic()))
        argv = self._plan.commands[self._turn % len(self._plan.commands)]
        Task(self._loop, argv, self._plan.environment, seconds, self._answer)

    def _answer(self, code: int | None, output: bytes) -> None:
        if code == 0:
            self._joined()
            return
        self._denied = self._denied + 1 if code is not None and denied(output) else 0
        everywhere = self._denied >= len(self._plan.commands)
        if everywhere or time.monotonic() + self._plan.period_seconds >= self._end:
            self._failed(self._explain(code, output))
            return
        self._turn += 1
        self._loop.call_later(self._plan.period_seconds, self._try)

    def _explain(self, code: int | None, output: bytes) -> dict[str, Any]:
        collectors = self._plan.collectors
        collector = collectors[self._turn % len(collectors)] if collectors else "of the pool"
        try:
            failure = classify(code, output, collector, timed_out=code is None and not output)
        except (ImportError, OSError):  # the payload was deleted meanwhile, and the records cannot be loaded any more
            failure = None
        if failure is None:
            message = f"the pilot did not join the pool within {self._plan.seconds:g} s (exit code {code})"
            return final_report.failure("network", "collector.unreachable", message, stage="handoff", retry=True)
        return final_report.failure(
            failure.kind.value,
            failure.code,
            failure.message,
            hint=failure.hint,
            stage=failure.stage or "handoff",
            retry=failure.retry,
        )
