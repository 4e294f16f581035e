"""A node on which every job fails at once would eat a whole queue: found by how jobs ended, not by how fast they were.

Jobs that do their work are no sign of a broken node, however short and however many they are. Nor are those of one
cluster that fails by itself: where they ran, they must be of several clusters, and if all are one user's of more still.
Where HTCondor's starter could not even begin them the node is to blame sooner, but never for one job alone: its own ad
may be what no starter can bear. A job that was removed, held, vacated or refused says nothing. In all this the share of
the failed among those that say something must be high.
"""

from __future__ import annotations

import time

from pilot_agent.lifecycle.job_ends import FAILED, FINE, NOT_STARTED, SAYS_NOTHING, HistoryTail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot_agent.lifecycle.job_ends import JobEnd
    from pilot_agent.lifecycle.loop import Loop
    from pilot_agent.lifecycle.plan import BlackHolePlan

LOOK_BACK = 4
"""So many times the number of jobs that must fail are looked at: a node that did well for hours is found as soon."""
ONE_USER_SHARE = 0.75
"""With more of the evidence than this the failed jobs are one user's."""
ONE_USER_FACTOR = 2
"""So many times more jobs and clusters are needed when all are one user's."""
ONE_CLUSTER_FACTOR = 3
"""So many times more jobs are needed when all that were not started are of one cluster."""
PERIOD_SECONDS = 5.0
REASONS = 3


class Suspicion:
    """Why a node is suspected: counts of the ends that say something, of the failed, of those among them that were not
    even started, of the failed jobs' clusters and users; and the last reasons in words."""

    __slots__ = ("clusters", "ends", "failed", "not_started", "reasons", "users")

    def __init__(self, ends: int, failed: int, not_started: int, clusters: int, users: int, reasons: str) -> None:
        self.ends = ends
        self.failed = failed
        self.not_started = not_started
        self.clusters = clusters
        self.users = users
        self.reasons = reasons

    def message(self) -> str:
        """What happened, in one sentence."""
        begun = f", {self.not_started} of them before they began" if self.not_started else ""
        return (
            f"{self.failed} of the last {self.ends} jobs here failed at once{begun}; they are of {self.clusters} "
            f"cluster{'s' * (self.clusters > 1)} of {self.users} user{'s' * (self.users > 1)}; the last: {self.reasons}"
        )


class Detector:
    """Fed with the ends in their order; pure."""

    __slots__ = ("_ends", "_plan")

    def __init__(self, plan: BlackHolePlan) -> None:
        self._plan = plan
        self._ends: list[tuple[float, bool, JobEnd]] = []
        """When each came, and whether it speaks against the node."""

    def add(self, end: JobEnd, now: float) -> Suspicion | None:
        """One more end, at ``now`` (seconds of a clock that nobody sets); the suspicion when it gives one."""
        if end.ending == SAYS_NOTHING or self._plan.jobs <= 0:
            return None
        bad = end.ending == NOT_STARTED or (end.ending == FAILED and end.seconds < self._plan.seconds)
        self._ends = self._ends[1 - LOOK_BACK * self._plan.jobs :]
        self._ends.append((now, bad, end))
        return self._judge(now) if bad else None

    def _judge(self, now: float) -> Suspicion | None:
        recent = [(bad, end) for moment, bad, end in self._ends if now - moment <= self._plan.window_seconds]
        failed = [end for bad, end in recent if bad]
        if len(failed) < self._plan.jobs or len(failed) < self._plan.share * len(recent):
            return None
        not_started = [end for end in failed if end.ending == NOT_STARTED]
        if not (self._by_starters(not_started) or self._by_jobs(failed)):
            return None
        clusters, users = {end.cluster for end in failed}, {end.user for end in failed}
        return Suspicion(len(recent), len(failed), len(not_started), len(clusters), len(users), _reasons(failed))

    def _by_starters(self, ends: list[JobEnd]) -> bool:
        if len({end.job for end in ends}) < 2:
            return False
        several = sum(_evidence(ends, most=-(-self._plan.jobs // 2)).values())
        return several >= self._plan.jobs or len(ends) >= self._plan.jobs * ONE_CLUSTER_FACTOR

    def _by_jobs(self, ends: list[JobEnd]) -> bool:
        evidence = _evidence(ends, most=-(-self._plan.jobs // self._plan.clusters))
        users: dict[str, int] = {}
        for (_, user), count in evidence.items():
            users[user] = users.get(user, 0) + count
        total = sum(users.values())
        factor = ONE_USER_FACTOR if max(users.values()) > ONE_USER_SHARE * total else 1
        return total >= self._plan.jobs * factor and len(evidence) >= self._plan.clusters * factor


def _evidence(ends: list[JobEnd], most: int) -> dict[tuple[str, str], int]:
    """How often the jobs of each cluster (and its user) failed, not more than ``most`` times each: many jobs of one
    cluster and one of another are no two clusters that fail."""
    counts: dict[tuple[str, str], int] = {}
    for end in ends:
        key = (end.cluster, end.user)
        counts[key] = min(most, counts.get(key, 0) + 1)
    return counts


class BlackHoleWatch:
    """Reads the history every few seconds; ``suspect(suspicion)`` once."""

    __slots__ = ("_detector", "_loop", "_suspect", "_tail")

    def __init__(self, plan: BlackHolePlan, history: str, loop: Loop, suspect: Callable[[Suspicion], None]) -> None:
        self._loop = loop
        self._suspect = suspect
        self._detector = Detector(plan)
        self._tail = HistoryTail(history)
        if plan.jobs > 0:
            self._loop.call_later(PERIOD_SECONDS, self._look)

    def _look(self) -> None:
        now = time.monotonic()
        for end in self._tail.read():
            suspicion = self._detector.add(end, now)
            if suspicion is not None:
                self._suspect(suspicion)
                return
        self._loop.call_later(PERIOD_SECONDS, self._look)


def _reasons(ends: list[JobEnd]) -> str:
    """The last few endings, the newest first."""
    said = [
        end.how if end.ending in (FINE, NOT_STARTED) else f"{end.how} after {end.seconds:.1f} s"
        for end in reversed(ends[-REASONS:])
    ]
    return ", ".join(said)
