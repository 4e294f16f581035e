"""GPUs that were there when the pilot began and are not any more: no job begins until they are back."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pilot_agent.events import EventLog
    from pilot_agent.lifecycle.acceptance import Acceptance

LOST_ATTRIBUTE = "PilotLostGpus"
"""In the machine ad: each GPU that was lost with the reason, separated by "; "; undefined without."""
LOST = "a GPU is lost"
"""Why no job is taken: HTCondor would go on to give it to jobs."""
MESSAGE_LETTERS = 500


class GpuWatch:
    """Hears the answers of the task that looks at the GPUs again (``plugins.gpu_watch``)."""

    __slots__ = ("_acceptance", "_events", "_lost")

    def __init__(self, events: EventLog, acceptance: Acceptance) -> None:
        self._events = events
        self._acceptance = acceptance
        self._lost = ""

    def hear(self, attributes: Mapping[str, Any]) -> None:
        """A periodic task answered."""
        if LOST_ATTRIBUTE not in attributes:
            return
        told = attributes[LOST_ATTRIBUTE]
        lost = told if isinstance(told, str) else ""
        if lost == self._lost:
            return
        self._lost = lost
        if lost:
            self._events.write("gpu.lost", message=lost[:MESSAGE_LETTERS])
            self._acceptance.refuse(LOST)
        else:
            self._events.write("gpu.back")
            self._acceptance.accept(LOST)
