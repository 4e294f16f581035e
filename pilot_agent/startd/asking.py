"""Ask several of HTCondor's programs at once, each only to say what it is or what it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot_agent.process import Result, Runner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pilot_agent.process import WakeUp


def ask_all(
    commands: Sequence[Sequence[str]],
    environment: Mapping[str, str],
    *,
    deadline_seconds: float,
    directories: Sequence[str | None] | None = None,
    wake: WakeUp | None = None,
) -> list[Result]:
    """How each command ended, in the order of ``commands``; each runs in its own of ``directories``, or where the pilot
    is. Raises ``Interrupted`` when ``wake`` becomes readable."""
    results: dict[int, Result] = {}
    with Runner(wake) as runner:
        running: dict[int, int] = {}
        for number, command in enumerate(commands):
            started = runner.start(
                command,
                deadline_seconds=deadline_seconds,
                environment=environment,
                directory=directories[number] if directories is not None else None,
            )
            if isinstance(started, Result):
                results[number] = started
            else:
                running[started] = number
        while running:
            handle, result = runner.wait_any()
            results[running.pop(handle)] = result
    return [results[number] for number in range(len(commands))]
