"""One question to the user pool, in a process of its own: HTCondor's library may hang or crash, and keeps what it
read in memory; the frontend does neither.

``python -m server_stub.frontend.query OUTPUT`` reads the question as JSON from its standard input and writes the answer
to the file OUTPUT. What went wrong is its last line on standard error, and its exit status is 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pilot_agent.codec import from_json
from server_stub.frontend.jobs import LARGEST_NUMBER, JobReader, JobTableBuilder
from server_stub.frontend.readable import is_number, read_each
from server_stub.frontend.slots import PROJECTION, read_slots
from server_stub.frontend.tables import save_jobs, save_slots

SLICE_JOBS = 25_000
"""So many ads are in memory at a time; the library needs 2.6 KiB for one."""
MOST_SLICES = 1024
IDLE = "JobStatus == 1 && JobUniverse != 7 && JobUniverse != 9 && JobUniverse != 12"
"""Neither local, scheduler nor grid jobs: no slot takes those."""
MATCHED = "time() - (LastMatchTime ?: 0) >= 60"
"""A job that was just given a slot waits for its claim, and needs no other one."""
FULL = 0.95
"""An access point that is so near to a limit of its own starts no more jobs for now."""
LIMITS = (
    ("jobs run", "TotalRunningJobs", "MaxJobsRunning"),
    ("uploads", "TransferQueueNumUploading", "TransferQueueMaxUploading"),
    ("downloads", "TransferQueueNumDownloading", "TransferQueueMaxDownloading"),
)
SCHEDD = (
    *("Name", "MyAddress", "CondorVersion", "MyType", "TotalIdleJobs", "CurbMatchmaking"),
    *(name for _, count, most in LIMITS for name in (count, most)),
)


class QueryError(RuntimeError):
    """No answer, or one that is not whole."""


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask: the ``kind`` is access_points, jobs or slots. ``location`` is an access point's ad."""

    kind: str
    collectors: tuple[str, ...] = ()
    constraint: str = "true"
    location: tuple[tuple[str, str], ...] = ()
    expected: int = 0
    attributes: tuple[str, ...] = ()
    lengths: tuple[tuple[str, str], ...] = ()


def main() -> int:
    """Answer the question on standard input."""
    question = from_json(Question, json.loads(sys.stdin.read()))
    try:
        KINDS[question.kind](question, sys.argv[1])
    except Exception as error:  # noqa: BLE001 - whatever the library raises is the answer
        sys.stderr.write(f"{' '.join(str(error).split()) or type(error).__name__}\n")
        return 1
    return 0


def ask_access_points(question: Question, output: str) -> None:
    """The access points that the pool's collector knows."""
    import htcondor2

    ads = htcondor2.Collector(list(question.collectors)).query(
        htcondor2.AdType.Schedd, question.constraint, list(SCHEDD)
    )
    with open(output, "w", encoding="utf-8") as file:
        json.dump(list(read_each(ads, access_point)), file)


def access_point(ad: Any) -> dict[str, Any]:
    """What matters of a schedd's ad."""
    return {
        "name": str(ad.get("Name", "")),
        "location": {name: str(ad.get(name, "")) for name in ("Name", "MyAddress", "CondorVersion", "MyType")},
        "idle": _count(ad, "TotalIdleJobs") or 0,
        "closed": closed(ad),
    }


def closed(ad: Any) -> str:
    """Why an access point starts no more jobs for now; empty where it does."""
    if _value(ad, "CurbMatchmaking") is True:
        return "it curbs its matchmaking"
    for what, name, limit in LIMITS:
        count, most = _count(ad, name), _count(ad, limit)
        if count is not None and most and count >= FULL * most:
            return f"{count} {what} of at most {most}"
    return ""


def _value(ad: Any, name: str) -> Any:
    value = ad.get(name)
    plain = value is None or isinstance(value, bool | int | float | str)
    return value if plain or not hasattr(ad, "eval") else ad.eval(name)


def _count(ad: Any, name: str) -> int | None:
    value = _value(ad, name)
    return int(value) if is_number(value) and 0 <= value < LARGEST_NUMBER else None


def ask_jobs(question: Question, output: str) -> None:
    """The idle jobs of one access point."""
    import classad2
    import htcondor2

    reader = JobReader(question.attributes, question.lengths)
    schedd = htcondor2.Schedd(classad2.ClassAd(dict(question.location)))
    only = f"{IDLE} && ({MATCHED}) && ({question.constraint})"

    def ask(constraint: str, most: int) -> list[Any]:
        return list(schedd.query(constraint, reader.projection, limit=most))

    builder = JobTableBuilder()
    for ads in slices(ask, only, question.expected):
        builder.add("", reader.records(ads))
    save_jobs(output, builder.table())


def slices(
    ask: Callable[[str, int], list[Any]], constraint: str, expected: int, *, size: int = SLICE_JOBS
) -> Iterator[list[Any]]:
    """The ads that fit, in several lists none of which is much larger than ``size``: each has other jobs. About so many
    are ``expected``; a list that becomes twice as large is asked for in smaller parts. Raises ``QueryError``."""
    parts = max(-(-expected // size), 1)
    left = [(parts, part) for part in range(parts)]
    while left:
        of, part = left.pop()
        chosen = constraint if of == 1 else f"({constraint}) && (ClusterId + ProcId) % {of} == {part}"
        ads = ask(chosen, 2 * size)
        if len(ads) < 2 * size:
            yield ads
        elif 2 * of > MOST_SLICES * parts:
            raise QueryError(f"more than {2 * size * of} jobs fit")
        else:
            left += [(2 * of, part), (2 * of, part + of)]


def ask_slots(question: Question, output: str) -> None:
    """The pool's slots."""
    import htcondor2

    ads = htcondor2.Collector(list(question.collectors)).query(
        htcondor2.AdType.Startd, question.constraint, list(PROJECTION)
    )
    save_slots(output, read_slots(ads))


KINDS: Mapping[str, Callable[[Question, str], None]] = {
    "access_points": ask_access_points,
    "jobs": ask_jobs,
    "slots": ask_slots,
}


if __name__ == "__main__":
    sys.exit(main())
