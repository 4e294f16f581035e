"""The startd's job history -> what the report says about jobs.

Loaded by the resident keeper: standard library only, and few modules of it.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

READ_LIMIT_BYTES = 64 << 20
_LINE_LIMIT_BYTES = 1 << 20


class JobRecord:
    """One job that ended here. ``exit_code`` or ``exit_signal`` is None, both when it was vacated or unknown."""

    __slots__ = ("exit_code", "exit_signal", "finished", "identifier", "owner", "wall_seconds")

    def __init__(
        self,
        identifier: str,
        owner: str,
        exit_code: int | None,
        exit_signal: int | None,
        wall_seconds: float,
        finished: float,
    ) -> None:
        self.identifier = identifier
        self.owner = owner
        self.exit_code = exit_code
        self.exit_signal = exit_signal
        self.wall_seconds = wall_seconds
        self.finished = finished

    @property
    def ending(self) -> str:
        """How it ended, as the report counts it: ``exit 3``, ``signal 9``, ``vacated``."""
        if self.exit_code is not None:
            return f"exit {self.exit_code}"
        if self.exit_signal is not None:
            return f"signal {self.exit_signal}"
        return "vacated"


def read_history(path: str) -> list[JobRecord]:
    """The jobs in a startd history file and in the files it was rotated into, oldest first.

    A file that is missing, unreadable or cut off gives the jobs that can be read; never raises for content.
    """
    records: list[JobRecord] = []
    for name in _files(path):
        try:
            with open(name, "rb") as file:
                records += parse_history(file.read(READ_LIMIT_BYTES))
        except OSError:
            continue
    return records


def parse_history(content: bytes) -> Iterator[JobRecord]:
    """The jobs in the content of a history file; an ad that names no job is passed over."""
    attributes: dict[str, str] = {}
    for raw in content.split(b"\n"):
        if raw.startswith(b"***"):
            record = _record(attributes)
            if record is not None:
                yield record
            attributes = {}
        elif len(raw) < _LINE_LIMIT_BYTES:
            name, equals, value = raw.decode("utf-8", "replace").partition("=")
            if equals:
                attributes[name.strip().lower()] = value.strip()


def summarize(records: list[JobRecord], *, alive_seconds: float) -> dict[str, object]:
    """The report's ``jobs``; ``alive_seconds`` is how long the pilot could run jobs, all of it not busy is idle."""
    ended: dict[str, int] = {}
    for record in records:
        ended[record.ending] = ended.get(record.ending, 0) + 1
    busy = busy_seconds(records)
    return {
        "started": len(records),
        "ended": dict(sorted(ended.items())),
        "busy_seconds": round(busy, 1),
        "idle_seconds": round(max(0.0, alive_seconds - busy), 1),
    }


def busy_seconds(records: list[JobRecord]) -> float:
    """How long at least one of the jobs ran: overlapping jobs count once."""
    spans = sorted((record.finished - record.wall_seconds, record.finished) for record in records)
    total, reached = 0.0, float("-inf")
    for begin, end in spans:
        if end > reached:
            total += end - max(begin, reached)
            reached = end
    return total


def _files(path: str) -> list[str]:
    """The file and its rotated predecessors (``name.YYYYMMDDThhmmss``), oldest first."""
    directory, name = os.path.split(path)
    try:
        found = sorted(entry for entry in os.listdir(directory or ".") if entry.startswith(name + "."))
    except OSError:
        found = []
    return [os.path.join(directory, entry) for entry in found] + [path]


def _record(attributes: dict[str, str]) -> JobRecord | None:
    cluster, process = _integer(attributes, "clusterid"), _integer(attributes, "procid")
    if cluster is None or process is None:
        return None
    ended = attributes.get("jobstatus") == "4" or "exitbysignal" in attributes
    by_signal = attributes.get("exitbysignal", "false").lower() == "true"
    wall = _number(attributes, "jobduration")
    if wall is None:
        wall = _number(attributes, "remotewallclocktime") or 0.0
    finished = _number(attributes, "completiondate") or _number(attributes, "enteredcurrentstatus") or 0.0
    return JobRecord(
        identifier=f"{cluster}.{process}",
        owner=attributes.get("owner", "").strip('"'),
        exit_code=_integer(attributes, "exitcode") if ended and not by_signal else None,
        exit_signal=_integer(attributes, "exitsignal") if ended and by_signal else None,
        wall_seconds=max(0.0, wall),
        finished=finished,
    )


def _integer(attributes: dict[str, str], name: str) -> int | None:
    try:
        return int(attributes[name])
    except (KeyError, ValueError):
        return None


def _number(attributes: dict[str, str], name: str) -> float | None:
    try:
        number = float(attributes[name])
    except (KeyError, ValueError):
        return None
    return number if 0 <= number < 1e11 else None
