"""The last words in the report: outcome, end time, jobs, what is left over. Patched into what the pipeline wrote."""

from __future__ import annotations

import os
import time

from pilot_agent import __version__
from pilot_agent.files import read_bounded
from pilot_agent.light import loads, signal
from pilot_agent.startd.history import no_jobs, read_history, summarize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SCHEMA = "pilot-agent/report/1"
LIMIT_BYTES = 64 << 20
SCORE_PREFIX = "score-"
"""Of the files in ``private`` with the last score of each benchmark that ran beside the jobs."""
SCORE_BYTES = 1 << 20
MOST_SCORES = 1000
UNKNOWN_ID = "unknown"
"""Of a pilot that ended before it had an identifier."""


def failure(
    kind: str,
    code: str,
    message: str,
    *,
    hint: str = "",
    stage: str = "",
    retry: bool = False,
    number: int | None = None,
) -> dict[str, Any]:
    """A failure as the report holds it (``model.Failure``, which costs a resident process too much to import);
    ``number`` is the signal of a preemption."""
    return {"kind": kind, "code": code, "message": message, "hint": hint, "stage": stage, "plugin": "", "retry": retry,
            "signal": number}  # fmt: skip


def preempted(number: int) -> dict[str, Any]:
    """The failure of a pilot that signal ``number`` ended."""
    return failure("preempted", f"signal.{number}", f"signal {number} told the pilot to end", retry=True, number=number)


def silent(directory: str) -> dict[str, Any]:
    """The failure of a pilot whose workspace, ``directory``, is on a file system that does not answer any more."""
    message = f"the file system of the workspace {directory} does not answer; what is there could not be undone"
    hint = "the site looks at that mount, or site.scratch names a disk of the node"
    return failure("node_resource", "workspace.silent", message, hint=hint, stage="run", retry=True)


def master_died(code: int | None, *, of_startd: bool) -> dict[str, Any]:
    """The failure of a pilot whose ``condor_master`` ended unasked with exit code ``code`` (-N for signal N, None for
    unknown), because its startd did or by itself."""
    if of_startd:
        message = "condor_startd died, and condor_master with it; their logs are logs/StartLog and logs/MasterLog"
        return failure("internal", "condor.startd_died", message, stage="run", retry=True)
    how = "could not be waited for" if code is None else f"exited {code}" if code > 0 else f"died of signal {-code}"
    message = f"condor_master {how}; its log is logs/MasterLog in the output directory"
    return failure("internal", "condor.master_died", message, stage="run", retry=True)


def master_told() -> dict[str, Any]:
    """The failure of a pilot whose ``condor_master`` somebody else told to end."""
    message = (
        "condor_master was told to end by somebody else than the pilot (SIGTERM, or condor_off); running jobs went "
        "back to their queue"
    )
    hint = "to end a pilot, signal the process that the batch system started, or run pilot-agent drain or stop"
    return failure(
        "preempted", "condor.told_to_end", message, hint=hint, stage="run", retry=True, number=signal.SIGTERM
    )


def outcome(problem: dict[str, Any] | None) -> dict[str, Any]:
    """The report's ``outcome`` for a failure or None."""
    if problem is None:
        return {"status": "ok", "failure": None}
    return {"status": "preempted" if problem["kind"] == "preempted" else "failed", "failure": problem}


def read_report(path: str) -> dict[str, Any] | None:
    """The report at ``path``; None when it is missing or no report."""
    try:
        return parse_report(read_bounded(path, limit_bytes=LIMIT_BYTES))
    except OSError:
        return None


def parse_report(content: bytes) -> dict[str, Any] | None:
    """The report in ``content``; None when it is none."""
    try:
        report = loads(content)
    except ValueError:
        return None
    return report if isinstance(report, dict) and isinstance(report.get("pilot"), dict) else None


def empty_report(pilot_id: str = "", started: float | None = None) -> dict[str, Any]:
    """A report of a pilot of which nothing else is known."""
    return {
        "schema": SCHEMA,
        "pilot": {
            "id": pilot_id or UNKNOWN_ID,
            "version": __version__,
            "started": timestamp(time.time() if started is None else started),
            "finished": None,
            "host": os.uname().nodename,
            "user": str(os.geteuid()),
            "config": [],
        },
        "outcome": outcome(None),
        "failures": [],
        "timeline": [],
        "node": {},
        "cvmfs": None,
        "container": None,
        "checks": [],
        "verdicts": [],
        "services": [],
        "benchmarks": [],
        "plugins": [],
        "jobs": no_jobs(0.0 if started is None else time.time() - started),
        "ad": {},
        "startd": None,
        "leftovers": [],
        "time": None,
        "condor": None,
    }


def set_outcome(report: dict[str, Any], problem: dict[str, Any] | None) -> None:
    """Write the outcome into a report; an earlier failure that the pipeline recorded is kept in ``failures``."""
    report["outcome"] = outcome(problem)
    listed = report.setdefault("failures", [])
    if problem is not None and problem not in listed:
        listed.append(problem)


def set_jobs(report: dict[str, Any], history: str | None, began: float, started: float, alive_seconds: float) -> None:
    """Write into a report which jobs ran in the ``alive_seconds`` since ``began``, when the pilot that ``started`` had
    handed over to HTCondor; ``history`` is the file in which the startd kept them (both times in seconds since the
    epoch)."""
    records = read_history(history) if history else []
    ended, validated = began + alive_seconds, began - started
    report["jobs"] = summarize(records, began=began, ended=ended, cores=_cores(report), validation_seconds=validated)


def set_jobs_of_killed(report: dict[str, Any], history: str, started: float) -> None:
    """The same for a pilot whose keeper was killed: the report's own timeline says when it had handed over."""
    for line in reversed(report.get("timeline") or []):
        if isinstance(line, dict) and (line.get("stage"), line.get("what")) == ("handoff", "stage"):
            start, seconds = line.get("start"), line.get("seconds")
            if isinstance(start, int | float) and isinstance(seconds, int | float) and line.get("status") == "ok":
                began = started + start + seconds
                set_jobs(report, history, began, started, time.time() - began)
            return


def _cores(report: dict[str, Any]) -> int:
    """The cores that the pilot offered; 1 where the report does not say."""
    fact: Any = report.get("node")
    for name in ("cpu", "usable", "value"):
        fact = fact.get(name) if isinstance(fact, dict) else None
    return max(1, int(fact)) if isinstance(fact, int | float) and fact < 1 << 20 else 1


def add_scores(report: dict[str, Any], directory: str) -> None:
    """Write the scores that were measured beside the jobs into a report, from the files in ``directory``."""
    try:
        names = sorted(name for name in os.listdir(directory) if name.startswith(SCORE_PREFIX))
    except OSError:
        return
    listed: list[Any] = report.setdefault("benchmarks", [])
    for name in names[:MOST_SCORES]:
        try:
            score = loads(read_bounded(os.path.join(directory, name), limit_bytes=SCORE_BYTES))
        except (OSError, ValueError):
            continue
        if isinstance(score, dict) and "name" in score:
            listed.append(score)


def set_end(
    report: dict[str, Any], leftovers: list[dict[str, Any]], teardown_seconds: float, started: float | None
) -> None:
    """Write the end time, the leftovers and the teardown's line in the timeline into a report."""
    report["pilot"]["finished"] = timestamp(time.time())
    report["leftovers"] = leftovers
    begin = 0.0 if started is None else max(0.0, time.time() - teardown_seconds - started)
    add_line(report, "teardown", "teardown", begin, teardown_seconds, "failed" if leftovers else "ok")


def add_line(report: dict[str, Any], stage: str, what: str, start: float, seconds: float, status: str) -> None:
    """Add one line to a report's timeline (``model.TimelineEntry``); times in seconds, ``start`` after the pilot's."""
    report.setdefault("timeline", []).append(
        {"stage": stage, "plugin": "agent", "what": what, "start": round(start, 4), "seconds": round(seconds, 4),
         "status": status, "detail": ""}
    )  # fmt: skip


def timestamp(seconds: float) -> str:
    """UTC time in ISO 8601, milliseconds."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"
