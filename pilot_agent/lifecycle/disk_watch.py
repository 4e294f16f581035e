"""The keeper's eye on the disk: below one floor no job is taken until there is space again, below another the pilot
ends while it still can write what happened."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot_agent.events import EventLog
    from pilot_agent.lifecycle.acceptance import Acceptance
    from pilot_agent.lifecycle.channel import AdChannel
    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.lifecycle.plan import DiskPlan

LOW = "disk"
"""Why no job is taken."""
FREE_ATTRIBUTE = "PilotDiskFreeMiB"
"""Free space of the fullest of the directories, MiB, when it was last told."""
RETURN_FACTOR = 1.25
"""So much more than the floor must be free again before jobs are taken: a job's first files must not close it again."""
TOLD_SHARE = 0.1
"""The attribute changes when the free space has changed by so much of what was told."""


class DiskWatch:
    """Looks every period. ``full(message)`` once, when less than the hard floor is free."""

    __slots__ = ("_acceptance", "_channel", "_ended", "_events", "_full", "_loop", "_low", "_plan", "_told")

    def __init__(
        self,
        plan: DiskPlan,
        loop: Loop,
        channel: AdChannel,
        events: EventLog,
        acceptance: Acceptance,
        full: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._loop = loop
        self._channel = channel
        self._events = events
        self._acceptance = acceptance
        self._full = full
        self._low = False
        self._ended = False
        self._told = -1
        if plan.floor_mib > 0 or plan.hard_floor_mib > 0:
            self._look()

    def _look(self) -> None:
        found = [(free, path) for path in self._plan.paths if (free := free_mib(path)) is not None]
        if found:
            self._judge(*min(found))
        self._loop.call_later(self._plan.period_seconds, self._look)

    def _judge(self, free: int, path: str) -> None:
        if self._told < 0 or abs(free - self._told) > max(1.0, self._told * TOLD_SHARE):
            self._told = free
            self._channel.update({FREE_ATTRIBUTE: free}, state=False)
        floor = self._plan.floor_mib
        if not self._low and free < floor:
            self._low = True
            self._events.write("disk.low", path=path, free_mib=free, needed_mib=floor)
            self._acceptance.refuse(LOW)
        elif self._low and free >= floor * RETURN_FACTOR:
            self._low = False
            self._events.write("disk.free_again", path=path, free_mib=free)
            self._acceptance.accept(LOW)
        if free < self._plan.hard_floor_mib and not self._ended:
            self._ended = True
            self._full(
                f"{free} MiB are free in {path}, and below {self._plan.hard_floor_mib} MiB jobs lose what they write"
            )


def free_mib(path: str) -> int | None:
    """What an unprivileged user can still write there, MiB; None where nobody can say."""
    try:
        status = os.statvfs(path)
    except OSError:
        return None
    if status.f_files and not status.f_favail:
        return 0  # no inode is left: no file can be made
    return status.f_bavail * status.f_frsize >> 20
