"""What runs beside the jobs: services watched, periodic tasks run, both seen in the machine ad."""

from __future__ import annotations

import os
import time

from pilot_agent.lifecycle.identity import identify, still_same
from pilot_agent.lifecycle.loop import Task
from pilot_agent.light import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from pilot_agent.lifecycle.channel import AdChannel
    from pilot_agent.lifecycle.identity import Identity
    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.lifecycle.plan import PeriodicPlan, ServicePlan

SHORTEST_PERIOD_SECONDS = 1.0
LOOK_SECONDS = 5.0
"""How often a service that is not a child of this process is looked at."""


def ready_attribute(name: str) -> str:
    """The attribute that says whether a service is up: ``Triton_Ready`` for the service ``triton``."""
    words = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)
    return f"{words[:1].upper()}{words[1:]}_Ready"


class Services:
    """The sidecars. One that dies loses its attributes; ``died(name, message, required)`` is called."""

    def __init__(
        self,
        plans: Sequence[ServicePlan],
        loop: Loop,
        channel: AdChannel,
        died: Callable[[str, str, bool], None],
    ) -> None:
        self._loop = loop
        self._channel = channel
        self._died = died
        for plan in plans:
            channel.update({**plan.attributes, ready_attribute(plan.name): True})
            self._watch(plan)

    def _watch(self, plan: ServicePlan) -> None:
        try:
            own = os.waitpid(plan.pid, os.WNOHANG)
        except ChildProcessError:
            identity = identify(plan.pid)
            if identity is None:
                self._loop.call_later(0, lambda: self._gone(plan, "ended before the hand-off"))
            else:
                self._look(plan, identity)
            return
        if own[0]:
            self._loop.call_later(0, lambda: self._gone(plan, _how(own[1])))
        else:
            self._loop.expect(plan.pid, lambda status: self._gone(plan, _how(status)))

    def _look(self, plan: ServicePlan, identity: Identity) -> None:
        if still_same(identity):
            self._loop.call_later(LOOK_SECONDS, lambda: self._look(plan, identity))
        else:
            self._gone(plan, "ended")

    def _gone(self, plan: ServicePlan, how: str) -> None:
        self._channel.update({**dict.fromkeys(plan.attributes), ready_attribute(plan.name): False})
        self._died(plan.name, f"the service {plan.name} {how}", plan.required)


class Periodics:
    """The periodic tasks, each one run at a time; ``failed(name, message, on_failure)`` and ``recovered(name)``;
    ``told(attributes)`` for each answer."""

    def __init__(
        self,
        plans: Sequence[PeriodicPlan],
        loop: Loop,
        channel: AdChannel,
        failed: Callable[[str, str, str], None],
        recovered: Callable[[str], None],
        told: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._loop = loop
        self._channel = channel
        self._told = told
        self._failed = failed
        self._recovered = recovered
        for plan in plans:
            loop.call_later(0, lambda plan=plan: self._run(plan))  # type: ignore[misc]

    def _run(self, plan: PeriodicPlan) -> None:
        due = time.monotonic() + max(plan.period_seconds, SHORTEST_PERIOD_SECONDS)
        Task(
            self._loop,
            plan.argv,
            plan.environment,
            plan.timeout_seconds,
            lambda code, output: self._ended(plan, due, code, output),
            both_outputs=False,
        )

    def _ended(self, plan: PeriodicPlan, due: float, code: int | None, output: bytes) -> None:
        """The next run comes a period after this one began, and not before it has ended."""
        self._loop.call_later(max(due - time.monotonic(), 0.0), lambda: self._run(plan))
        self._done(plan, code, output)

    def _done(self, plan: PeriodicPlan, code: int | None, output: bytes) -> None:
        problem = f"exited {code}" if code else f"did not end by itself within {plan.timeout_seconds:g} s"
        if code == 0:
            try:
                attributes = loads(output) if output.strip() else {}
                problem = "" if isinstance(attributes, dict) else "answered no mapping of attributes"
            except ValueError:
                problem = "answered no JSON"
        if problem:
            self._failed(plan.name, f"the periodic task {plan.name} {problem}", plan.on_failure)
            return
        self._channel.update(attributes)
        self._told(attributes)
        self._recovered(plan.name)


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exited {code}" if code >= 0 else f"was ended by signal {-code}"
