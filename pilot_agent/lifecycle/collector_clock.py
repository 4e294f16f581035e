"""How far the node's clock is from the collector's: in the pilot's own ads both have written down a time.

HTCondor's startd writes its time into each ad (MyCurrentTime), and the collector the time at which it came
(LastHeardFrom).
"""

from __future__ import annotations

from pilot_agent.lifecycle.loop import Task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.lifecycle.plan import JoinPlan

FACT = "collector_offset_seconds"
SKEW_SECONDS = 60
"""Beyond it some tokens and certificates are refused, as the check of the clock has it."""
TRIES = 6
TRY_SECONDS = 10.0
"""How long a try may take, and the next one waits: the slot's ad comes a little after the handshake."""


class CollectorClock:
    """Asks the pool for the pilot's own ads until one is there, and gives ``told`` the offset in seconds: above 0 the
    node is ahead. A pool that lets the pilot read no ads is asked a few times and then left alone."""

    __slots__ = ("_left", "_loop", "_plan", "_told")

    def __init__(self, plan: JoinPlan, loop: Loop, told: Callable[[int], None]) -> None:
        self._plan = plan
        self._loop = loop
        self._told = told
        self._left = TRIES if plan.clock_commands else 0
        self._try()

    def _try(self) -> None:
        if self._left > 0:
            argv = self._plan.clock_commands[self._left % len(self._plan.clock_commands)]
            self._left -= 1
            Task(self._loop, argv, self._plan.environment, TRY_SECONDS, self._answer, both_outputs=False)

    def _answer(self, code: int | None, output: bytes) -> None:
        offset = read_offset(output) if code == 0 else None
        if offset is None:
            self._loop.call_later(TRY_SECONDS, self._try)
        else:
            self._told(offset)


def read_offset(output: bytes) -> int | None:
    """The offset in seconds in what was printed of an ad, ``MyCurrentTime LastHeardFrom``; None for anything else."""
    words = output.split()[:2]
    if len(words) < 2 or not all(word.isdigit() and len(word) < 12 for word in words):
        return None
    return int(words[0]) - int(words[1])


def add_to_report(report: dict[str, Any], offset: int) -> None:
    """Write the fact ``clock.collector_offset_seconds`` into a report that has facts of the clock."""
    fact = report.get("node", {}).get("clock", {}).get(FACT)
    if isinstance(fact, dict):
        fact.update(value=offset, unit="s", status="known", source="the pilot's ad at the collector", detail="")
