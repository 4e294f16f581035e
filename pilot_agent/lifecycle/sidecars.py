"""The services beside the jobs: watched, and seen in the machine ad, so that a job that needs one comes only while it
is up."""

from __future__ import annotations

import os

from pilot_agent.lifecycle.identity import identify, still_same

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pilot_agent.lifecycle.channel import AdChannel
    from pilot_agent.lifecycle.identity import Identity
    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.lifecycle.plan import ServicePlan

READY_SERVICES_ATTRIBUTE = "PilotReadyServices"
"""Names of the services that are up, separated by commas. START compares with it what a job says it needs."""
LOOK_SECONDS = 5.0
"""How often a service that is not a child of this process is looked at."""


def ready_attributes(name: str) -> tuple[str, str]:
    """The attributes that say whether a service is up: ``Triton_Ready`` and ``SERVICE_TRITON_READY`` for the service
    ``triton``."""
    words = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)
    return f"{words[:1].upper()}{words[1:]}_Ready", f"SERVICE_{words.upper()}_READY"


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
        self._ready: list[str] = []
        for plan in plans:
            self._ready.append(plan.name)
            channel.update({**plan.attributes, **dict.fromkeys(ready_attributes(plan.name), True)})
            self._watch(plan)
        self._tell()

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
        if plan.name in self._ready:
            self._ready.remove(plan.name)
        self._channel.update({**dict.fromkeys(plan.attributes), **dict.fromkeys(ready_attributes(plan.name), False)})
        self._tell()
        self._died(plan.name, f"the service {plan.name} {how}", plan.required)

    def _tell(self) -> None:
        self._channel.update({READY_SERVICES_ATTRIBUTE: ",".join(self._ready) or None})


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exited {code}" if code >= 0 else f"was ended by signal {-code}"
