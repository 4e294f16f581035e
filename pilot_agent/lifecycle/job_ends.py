"""How the jobs of this pilot ended, read from HTCondor's startd history while it grows.

What the ads say was seen with HTCondor 23.9: a starter that could not begin a job leaves an ad without ``JobState``; a
job that was removed, held or vacated has one, but no ticket of execution (``ToE``) of this run; a hook that refused a
job leaves ``STARTER_DISCONNECTED_FROM_SUBMIT_NODE``, and files that could not be brought no ``ScratchDirFileCount``.
Most of an ad comes from users: it is cut, bounded, and believed only as far as it can do no harm.
"""

from __future__ import annotations

import os

from pilot_agent.startd.history import open_history
from pilot_agent.startd.history_ads import OWN_ACCORD, read_ads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pilot_agent.startd.history_ads import Ad

MOST_BYTES = 1 << 20
"""Read in one look; more than that behind, the oldest is passed over."""
FINE, FAILED, NOT_STARTED, SAYS_NOTHING = "fine", "failed", "not started", "says nothing"
_WANTED = frozenset(
    ("globaljobid", "user", "jobstate", "jobduration", "jobstartdate", "exitcode", "exitbysignal", "exitsignal", "toe",
     "scratchdirfilecount", "starter_disconnected_from_submit_node")
)  # fmt: skip


class JobEnd:
    """One end: the job and its cluster by names that hold for all access points, its user, one of the four endings, how
    long it ran, and in words how it ended."""

    __slots__ = ("cluster", "ending", "how", "job", "seconds", "user")

    def __init__(self, job: str, cluster: str, user: str, ending: str, seconds: float, how: str) -> None:
        self.job = job
        self.cluster = cluster
        self.user = user
        self.ending = ending
        self.seconds = seconds
        self.how = how


class HistoryTail:
    """What was added to a history file since the last look; from the beginning of another one after a rotation."""

    __slots__ = ("_inode", "_offset", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._inode = 0
        self._offset = 0

    def read(self) -> list[JobEnd]:
        """The ends since the last call. A file that is missing or unreadable has none; never raises for content."""
        try:
            with open(self._path, "rb", opener=open_history) as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._inode, self._offset = status.st_ino, 0
                self._offset = max(self._offset, status.st_size - MOST_BYTES)
                ads = list(read_ads(file, _WANTED, self._offset, status.st_size))
        except OSError:
            return []
        # The last one may be only half there: it is read again.
        self._offset = ads[-1].end if ads else self._offset
        return [_end(ad) for ad in ads if ad.banner.cluster >= 0 and ad.banner.process >= 0]


def _end(ad: Ad) -> JobEnd:
    schedd = ad.string("globaljobid").partition("#")[0]
    cluster = f"{schedd}#{ad.banner.cluster}"
    ending, how = _ending(ad)
    return JobEnd(
        job=f"{cluster}.{ad.banner.process}",
        cluster=cluster,
        user=ad.string("user") or ad.banner.owner,
        ending=ending,
        seconds=ad.number("jobduration") or 0.0,
        how=how,
    )


def _ending(ad: Ad) -> tuple[str, str]:
    if ad.string("jobstate") != "Exited":
        if ad.true("starter_disconnected_from_submit_node") or not ad.text("scratchdirfilecount"):
            return SAYS_NOTHING, ""
        return NOT_STARTED, "not started"
    if ad.how() != OWN_ACCORD:
        return SAYS_NOTHING, ""
    by_signal = ad.true("exitbysignal")
    code = ad.integer("exitsignal" if by_signal else "exitcode")
    if code is None:
        return SAYS_NOTHING, ""
    if code == 0 and not by_signal:
        return FINE, "exit 0"
    return FAILED, f"{'signal' if by_signal else 'exit'} {code}"
