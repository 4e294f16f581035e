"""The services beside the jobs: watched, and seen in the machine ad, so that a job that needs one comes only while it
is up."""

from __future__ import annotations

import os

from pilot_agent.lifecycle.identity import identify, still_same

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pilot_agent.lifecycle.identity import Identity
    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.lifecycle.plan import ServicePlan
    from pilot_agent.lifecycle.service_telling import ServiceTelling

LOOK_SECONDS = 5.0
"""How often a service that is not a child of this process is looked at."""


class Services:
    """The sidecars. One that dies loses its attributes; ``died(name, message, required)`` is called."""

    def __init__(
        self,
        plans: Sequence[ServicePlan],
        loop: Loop,
        told: ServiceTelling,
        died: Callable[[str, str, bool], None],
    ) -> None:
        self._loop = loop
        self._told = told
        self._died = died
        for plan in plans:
            told.changed(plan.name, "ready", plan.ports, plan.attributes)
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
        self._told.changed(plan.name, "failed", plan.ports, plan.attributes)
        self._died(plan.name, f"the service {plan.name} {how}", plan.required)


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exited {code}" if code >= 0 else f"was ended by signal {-code}"
