"""What a service writes into its directory, measured a little at a time: whoever looks has other things to do."""

from __future__ import annotations

import os
import stat
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.services.plan import ServicePlan

LONGEST_LOOK_SECONDS = 30.0
SHORTEST_LOOK_SECONDS = 1.0
LOOKS_TO_LIMIT = 2
"""So many looks at least while it grows to its limit as fast as it did before."""
FILES_AT_ONCE = 500
PAUSE_SECONDS = 0.02
MOST_FILES = 200_000
"""More are not looked at: what is counted by then is a bound from below."""
BLOCK_BYTES = 512
"""The unit of ``st_blocks``, whatever the file system (stat(2))."""


class DiskWatch:
    """Looks until ``ended()``; ``over(used_mib)`` comes once, when the files below the service's directory take more
    than its ``disk_mib``."""

    __slots__ = ("_before", "_bytes", "_ended", "_limit", "_loop", "_over", "_plan", "_sizes", "_when")

    def __init__(self, loop: Loop, plan: ServicePlan, ended: Callable[[], bool], over: Callable[[int], None]) -> None:
        self._loop = loop
        self._plan = plan
        self._ended = ended
        self._over = over
        self._limit = plan.disk_mib << 20
        self._before, self._when = 0, time.monotonic()
        self._bytes = 0
        self._sizes: Iterator[int] = iter(())
        loop.call_later(SHORTEST_LOOK_SECONDS, self._begin)

    def _begin(self) -> None:
        self._bytes = 0
        self._sizes = file_sizes(self._plan.directory)
        self._go_on(MOST_FILES)

    def _go_on(self, left: int) -> None:
        if self._ended():
            return
        counted = 0
        for size in self._sizes:
            self._bytes += size
            counted += 1
            if counted == FILES_AT_ONCE:
                break
        if self._bytes > self._limit:
            self._over(self._bytes >> 20)
        elif counted == FILES_AT_ONCE and left > 0:
            self._loop.call_later(PAUSE_SECONDS, lambda: self._go_on(left - counted))
        else:
            self._loop.call_later(self._pause(), self._begin)

    def _pause(self) -> float:
        """The sooner the faster it grew."""
        now = time.monotonic()
        grown, seconds = self._bytes - self._before, now - self._when
        self._before, self._when = self._bytes, now
        if grown <= 0:
            return LONGEST_LOOK_SECONDS
        wanted = (self._limit - self._bytes) / LOOKS_TO_LIMIT * seconds / grown
        return min(LONGEST_LOOK_SECONDS, max(SHORTEST_LOOK_SECONDS, wanted))


def file_sizes(directory: str) -> Iterator[int]:
    """What each entry below a directory takes on its file system, in bytes. Neither links nor mounts are followed, and
    what cannot be looked at counts nothing."""
    try:
        device = os.lstat(directory).st_dev
    except OSError:
        return
    waiting = [directory]
    while waiting:
        place = waiting.pop()
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    if stat.S_ISDIR(status.st_mode) and status.st_dev == device:
                        waiting.append(entry.path)
                    yield status.st_blocks * BLOCK_BYTES
        except OSError:
            continue
