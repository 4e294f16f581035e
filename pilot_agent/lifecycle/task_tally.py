"""How the periodic tasks went, in the machine ad under the names that expressions written for GlideinWMS's periodic
scripts use. Times are seconds since 1970."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pilot_agent.lifecycle.channel import AdChannel

OK = "GLIDEIN_PS_OK"
"""False while any task's last run has failed."""
FAILING_LIST = "GLIDEIN_PS_FAILING_LIST"
"""Names of the tasks whose last run failed, separated by commas."""
FAILED_LIST = "GLIDEIN_PS_FAILED_LIST"
"""Names of the tasks of which any run failed."""
FAILED_LAST = "GLIDEIN_PS_FAILED_LAST"
FAILED_LAST_REASON = "GLIDEIN_PS_FAILED_LAST_REASON"
FAILED_LAST_END = "GLIDEIN_PS_FAILED_LAST_END"
LAST = "GLIDEIN_PS_LAST"
LAST_END = "GLIDEIN_PS_LAST_END"
TALLY_ATTRIBUTES = (OK, FAILING_LIST, FAILED_LIST, FAILED_LAST, FAILED_LAST_REASON, FAILED_LAST_END, LAST, LAST_END)
REASON_LIMIT = 500
"""Characters."""


class TaskTally:
    """Counts from its making on: until a run has failed all is well."""

    __slots__ = ("_channel", "_failed", "_failing")

    def __init__(self, channel: AdChannel) -> None:
        self._channel = channel
        self._failing: set[str] = set()
        self._failed: set[str] = set()
        channel.note(self._standing())

    def ended(self, name: str, problem: str) -> None:
        """A run of this task ended; ``problem`` is empty when it passed."""
        now = int(time.time())
        moments: dict[str, Any] = {LAST: name, LAST_END: now}
        if problem:
            moments |= {FAILED_LAST: name, FAILED_LAST_REASON: problem[:REASON_LIMIT], FAILED_LAST_END: now}
            self._failed.add(name)
            self._failing.add(name)
        else:
            self._failing.discard(name)
        # A run may end every few seconds: only that a task begins to fail, or passes again, is worth a message.
        self._channel.note(moments)
        self._channel.update(self._standing())

    def _standing(self) -> dict[str, Any]:
        failing, failed = (",".join(sorted(names)) for names in (self._failing, self._failed))
        return {OK: not failing, FAILING_LIST: failing, FAILED_LIST: failed}
