"""The startd's job history -> what the report says about jobs.

Loaded by the resident keeper: standard library only, and few modules of it. The ads are those that starters wrote, but
most of what stands in them comes from users: whatever it is, it is counted, cut and bounded, and raises nothing.
"""

from __future__ import annotations

import os

from pilot_agent.startd.history_ads import OWN_ACCORD, read_ads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import IO, Any

    from pilot_agent.startd.history_ads import Ad

HISTORY = "startd_history"
"""The file's name in HTCondor's log directory."""
READ_LIMIT_BYTES = 64 << 20
"""Of each file."""
MOST_RECORDS = 100_000
"""Runs that are read; those beyond are not counted. Each takes half a KiB while the account is made."""
MOST_FILES = 16
MOST_NAMES = 50
"""So many users, projects and endings are told apart; those beyond are ``OTHER``."""
OTHER, UNKNOWN = "other", "unknown"
EVICTED, WITHDRAWN, NOT_STARTED = "evicted", "removed or held", "not started"

_WANTED = frozenset(
    (
        *("user", "owner", "projectname", "acctgroup", "cpusprovisioned", "requestcpus"),
        *("jobduration", "remotewallclocktime", "jobstartdate", "completiondate", "enteredcurrentstatus"),
        *("exitcode", "exitsignal", "exitbysignal", "toe", "badputcausedbypreemption", "badputcausedbydraining"),
    )
)


class JobRecord:
    """One run of a job that ended here. ``begun`` and ``finished`` are seconds since the epoch, 0 where the ad does not
    say; ``wall_seconds`` is how long the job's process ran; ``cores`` what its slot had."""

    __slots__ = ("begun", "cores", "ending", "finished", "identifier", "project", "user", "wall_seconds")

    def __init__(
        self,
        *,
        identifier: str,
        user: str,
        project: str,
        ending: str,
        cores: float,
        wall_seconds: float,
        begun: float,
        finished: float,
    ) -> None:
        self.identifier = identifier
        self.user = user
        self.project = project
        self.ending = ending
        """As the report counts it: ``exit 3``, ``signal 9``, ``evicted``, ``removed or held``, ``not started``."""
        self.cores = cores
        self.wall_seconds = wall_seconds
        self.begun = begun
        self.finished = finished


def read_history(path: str) -> list[JobRecord]:
    """The jobs in a startd history file and in the files it was rotated into, oldest first.

    A file that is missing, unreadable, cut off or none at all (a job without a container may put a FIFO there, or a
    link) gives the jobs that can be read, ``MOST_RECORDS`` at most; never raises for content.
    """
    records: list[JobRecord] = []
    for name in _files(path):
        try:
            with open(name, "rb", opener=open_history) as file:
                for record in read_records(file):
                    if len(records) >= MOST_RECORDS:
                        return records
                    records.append(record)
        except OSError:
            continue
    return records


def open_history(path: str, flags: int) -> int:
    """The ``opener`` of a file that a job may have replaced."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def read_records(file: IO[bytes]) -> Iterator[JobRecord]:
    """The jobs in an open history file; an ad that names no job, or is cut off, is passed over. Raises ``OSError``."""
    for ad in read_ads(file, _WANTED, 0, READ_LIMIT_BYTES):
        if ad.banner.cluster >= 0 and ad.banner.process >= 0:
            yield _record(ad)


def no_jobs(validation_seconds: float) -> dict[str, Any]:
    """The report's ``jobs`` of a pilot that never was in a pool."""
    return summarize((), began=0.0, ended=0.0, cores=1, validation_seconds=validation_seconds)


def summarize(
    records: Sequence[JobRecord], *, began: float, ended: float, cores: float, validation_seconds: float
) -> dict[str, Any]:
    """The report's ``jobs``; ``began`` and ``ended`` (since the epoch) are when the pilot could run jobs, on so many
    ``cores``. Nothing of a job counts outside of that time, whatever its ad says."""
    counts: dict[str, int] = {}
    users: dict[str, list[float]] = {}
    projects: dict[str, list[float]] = {}
    busy_core_seconds = 0.0
    for record in records:
        _count(counts, record.ending)
        begin, end = _span(record, began, ended)
        core_seconds = (end - begin) * min(record.cores, cores)
        busy_core_seconds += core_seconds
        for name, accounts in ((record.user or UNKNOWN, users), (record.project, projects)):
            if name:
                _charge(accounts, name, record.ending == "exit 0", end - begin, core_seconds)
    alive = max(0.0, ended - began)
    busy = busy_seconds(records, began, ended)
    return {
        "started": len(records),
        "ended": dict(sorted(counts.items())),
        "validation_seconds": round(max(0.0, validation_seconds), 1),
        "busy_seconds": round(busy, 1),
        "idle_seconds": round(max(0.0, alive - busy), 1),
        "busy_core_seconds": round(busy_core_seconds, 1),
        "idle_core_seconds": round(max(0.0, alive * cores - busy_core_seconds), 1),
        "users": _accounts(users),
        "projects": _accounts(projects),
    }


def busy_seconds(records: Iterable[JobRecord], began: float, ended: float) -> float:
    """How long at least one of the jobs ran between two moments: overlapping jobs count once."""
    total, reached = 0.0, began
    for begin, end in sorted(_span(record, began, ended) for record in records):
        if end > reached:
            total += end - max(begin, reached)
            reached = end
    return total


def _span(record: JobRecord, began: float, ended: float) -> tuple[float, float]:
    begin = record.begun or record.finished - record.wall_seconds
    end = min(begin + record.wall_seconds, ended)
    begin = max(begin, began)
    return (begin, end) if begin < end else (began, began)


def _count(counts: dict[str, int], name: str) -> None:
    if name not in counts and len(counts) >= MOST_NAMES:
        name = OTHER
    counts[name] = counts.get(name, 0) + 1


def _charge(accounts: dict[str, list[float]], name: str, succeeded: bool, seconds: float, core_seconds: float) -> None:
    account = accounts.setdefault(name, [0, 0, 0.0, 0.0])
    account[0] += 1
    account[1] += succeeded
    account[2] += seconds
    account[3] += core_seconds


def _accounts(accounts: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """The accounts as the report holds them; of very many those that used most, the others together."""
    ranked = sorted(accounts.items(), key=lambda item: (-item[1][3], -item[1][0], item[0]))
    kept = dict(ranked[:MOST_NAMES])
    if rest := [account for _, account in ranked[MOST_NAMES:]]:
        own = kept.pop(OTHER, [0, 0, 0.0, 0.0])
        kept[OTHER] = [sum(values) for values in zip(own, *rest, strict=True)]
    return {
        name: {
            "jobs": int(jobs),
            "exit_zero": int(succeeded),
            "busy_seconds": round(seconds, 1),
            "busy_core_seconds": round(core_seconds, 1),
        }
        for name, (jobs, succeeded, seconds, core_seconds) in kept.items()
    }


def _files(path: str) -> list[str]:
    """The file and its rotated predecessors (``name.YYYYMMDDThhmmss``), oldest first; of very many the newest."""
    directory, name = os.path.split(path)
    try:
        found = sorted(entry for entry in os.listdir(directory or ".") if entry.startswith(name + "."))
    except OSError:
        found = []
    return [os.path.join(directory, entry) for entry in found[1 - MOST_FILES :]] + [path]


def _record(ad: Ad) -> JobRecord:
    wall = ad.number("jobduration")
    if wall is None:
        wall = ad.number("remotewallclocktime") or 0.0
    return JobRecord(
        identifier=f"{ad.banner.cluster}.{ad.banner.process}",
        user=ad.string("user") or ad.string("owner") or ad.banner.owner,
        project=ad.string("projectname") or ad.string("acctgroup"),
        ending=_ending(ad),
        cores=ad.number("cpusprovisioned") or ad.number("requestcpus") or 1.0,
        wall_seconds=wall,
        begun=ad.number("jobstartdate") or 0.0,
        finished=ad.number("completiondate") or ad.number("enteredcurrentstatus") or 0.0,
    )


def _ending(ad: Ad) -> str:
    """How the run ended (seen with HTCondor 23.9, for each way). Who has no ticket of execution and no status was never
    started: its files or its image could not be had."""
    how = ad.how()
    if how != OWN_ACCORD:
        if ad.true("badputcausedbypreemption") or ad.true("badputcausedbydraining"):
            return EVICTED
        if how:
            return WITHDRAWN
    by_signal = ad.true("exitbysignal")
    number = ad.integer("exitsignal" if by_signal else "exitcode")
    return NOT_STARTED if number is None else f"{'signal' if by_signal else 'exit'} {number}"
