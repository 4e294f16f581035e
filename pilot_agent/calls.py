"""A function of the payload called in a forked child, whose answer is JSON: what may hang costs a deadline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilot_agent.light import dumps, loads
from pilot_agent.model import Json
from pilot_agent.process import OUTPUT_LIMIT_BYTES, Result, Runner

if TYPE_CHECKING:
    from pilot_agent.process import WakeUp


@dataclass(frozen=True, slots=True)
class Called:
    """``value`` is what the function returned, None where no answer came whole; ``ended`` how the child did."""

    value: Json
    ended: Result


def call(
    function: Callable[[], Json],
    *,
    name: str,
    deadline_seconds: float,
    keep: tuple[int, ...] = (),
    output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
    wake: WakeUp | None = None,
) -> Called:
    """Call ``function`` in a child that has the descriptors in ``keep``, which must be above 3. Raises ``PilotError``
    (process.limit) where the node allows no further process; ``Interrupted`` when ``wake`` becomes readable."""
    with Runner(wake) as runner:
        handle = runner.start_call(
            lambda: dumps(function()).encode(),
            name=name,
            deadline_seconds=deadline_seconds,
            output_limit_bytes=output_limit_bytes,
            keep=keep,
        )
        ended = runner.wait(handle)
    try:
        return Called(loads(ended.answer) if ended.ok else None, ended)
    except ValueError:
        return Called(None, ended)
