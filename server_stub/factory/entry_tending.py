"""How long the factory bears with an entry's jobs that wait, run, are held, or do not go."""

from __future__ import annotations

from dataclasses import dataclass

from server_stub.factory.reader import Reader

DAY_SECONDS = 86400
BEYOND_WALLTIME_SECONDS = DAY_SECONDS // 2
RECOVERABLE = (0, 6, 7, 8, 11, 12, 13, 14, 18, 38, 40, 41, 42)
"""``HoldReasonCode`` of what may be well the next time: a gridmanager that could not speak to its site (0), programs
and files that could not be started, opened or transferred, a cloud that did not answer."""


@dataclass(frozen=True, slots=True)
class Tending:
    """A job is stale when it waited, ran, or was held for so many seconds (``running_seconds`` None: half a day longer
    than the entry's walltime, or a month); it is removed. One that is still there ``leaving_seconds`` after its removal
    is forgotten. A held job is let go again for a reason in ``release`` (HTCondor's codes), at most ``releases`` times,
    the first after ``pause_seconds`` and each further one after twice as long; for any other it is removed."""

    queued_seconds: int = 7 * DAY_SECONDS
    running_seconds: int | None = None
    held_seconds: int = 2 * DAY_SECONDS
    leaving_seconds: int = 3600
    release: tuple[int, ...] = RECOVERABLE
    releases: int = 5
    pause_seconds: int = 300

    def longest_run_seconds(self, walltime_seconds: int | None) -> int:
        """How long a pilot may run."""
        if self.running_seconds is not None:
            return self.running_seconds
        return walltime_seconds + BEYOND_WALLTIME_SECONDS if walltime_seconds else 31 * DAY_SECONDS


def read_tending(reader: Reader) -> Tending:
    """What an entry's ``stale`` and ``holds`` say; what is wrong is noted by the reader."""
    stale, holds, usual = reader.below("stale"), reader.below("holds"), Tending()
    tending = Tending(
        queued_seconds=stale.integer("queued_seconds", default=usual.queued_seconds, minimum=60),
        running_seconds=stale.quantity("running_seconds", default=None),
        held_seconds=stale.integer("held_seconds", default=usual.held_seconds, minimum=60),
        leaving_seconds=stale.integer("leaving_seconds", default=usual.leaving_seconds, minimum=60),
        release=holds.integers("release", default=usual.release, maximum=999),
        releases=holds.integer("releases", default=usual.releases, minimum=0, maximum=1000),
        pause_seconds=holds.integer("pause_seconds", default=usual.pause_seconds, minimum=1),
    )
    for nested in (stale, holds):
        nested.refuse_others()
    return tending
