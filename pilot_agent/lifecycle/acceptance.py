"""Whether the pilot takes jobs: it does while nothing speaks against it, and the ad says what does."""

from __future__ import annotations

from pilot_agent.lifecycle.channel import ACCEPTING_ATTRIBUTE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot_agent.lifecycle.channel import AdChannel

REASONS_ATTRIBUTE = "PilotNotAccepting"
"""Why no job is taken, reasons separated by ", "; undefined while jobs are taken."""


class Acceptance:
    """The reasons for which no job is taken, each given and withdrawn by its name; ``changed()`` after either."""

    __slots__ = ("_changed", "_channel", "_closed", "reasons")

    def __init__(self, channel: AdChannel, changed: Callable[[], None]) -> None:
        self._channel = channel
        self._changed = changed
        self._closed = False
        self.reasons: set[str] = set()

    def refuse(self, reason: str) -> None:
        """Take no further job until ``accept`` is called with the same reason."""
        if reason not in self.reasons:
            self.reasons.add(reason)
            self._tell()

    def accept(self, reason: str) -> None:
        """This reason speaks against jobs no longer."""
        if reason in self.reasons:
            self.reasons.discard(reason)
            self._tell()

    def close(self) -> None:
        """Take no job any more, for whatever reason: the pilot ends."""
        self._closed = True
        self._channel.update({ACCEPTING_ATTRIBUTE: False})

    def _tell(self) -> None:
        accepting = not self.reasons and not self._closed
        self._channel.update(
            {ACCEPTING_ATTRIBUTE: accepting, REASONS_ATTRIBUTE: ", ".join(sorted(self.reasons)) or None}
        )
        self._changed()
