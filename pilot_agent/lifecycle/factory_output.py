"""A pilot's end as existing GlideinWMS factories read it: markers and XML documents on both streams.

Everything comes from the report. Factories take the times of validation and of the whole pilot from the markers, and
what failed, where and why from the XML: short on standard output, with the result of every script on standard error.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

VERSION = "4.3.1"
"""Of the form of the documents."""
PILOT = "glidein_startup.sh"
LAST_SCRIPT = "condor_startup.sh"
"""The names under which factories know the whole pilot, and its part that runs jobs."""
FAILURE_TYPES = {
    "node_resource": "WN_Resource",
    "network": "Network",
    "config": "Config",
    "credential": "VO_Proxy",
    "corruption": "Corruption",
}
"""Kind of failure -> type of error; any other is Unknown."""
UNKNOWN = "Unknown"
MOST_RESULTS = 1000
LONGEST_TEXT = 4000
LINE_BYTES = 57
"""Of what becomes one line of base64: 76 characters."""
SHORT = ("client_name", "client_group", "user", "arch", "os", "hostname")
LONG = (
    *("glidein_factory", "glidein_name", "glidein_entry", "condorg_cluster", "condorg_subcluster"),
    *("glidein_credential_id", "condorg_schedd"),
)
"""Names in the operating environment of the short document, and beside them of the long one."""
OTHER_ENDINGS = "badOther"


def texts(report: Mapping[str, Any], about: Mapping[str, Any], code: int, now: float) -> tuple[str, str]:
    """What goes to standard output and to standard error. ``about`` says who the pilot is (``SHORT`` and ``LONG``,
    ``started`` and ``cwd``); ``code`` is the exit code that the factory gets, ``now`` the time, both in seconds."""
    story = _Story(report, about, code, now)
    short = story.document(whole=False)
    block = f"=== XML description of glidein activity ===\n{short}=== End XML description of glidein activity ===\n"
    return story.markers() + block, story.validations() + _encoded(story.document(whole=True))


class _Story:
    """The report, looked at as a factory does."""

    def __init__(self, report: Mapping[str, Any], about: Mapping[str, Any], code: int, now: float) -> None:
        self.report = report
        self.about = about
        self.code = code
        self.now = now
        self.started = _number(about.get("started"), now)
        self.failure = _mapping(_mapping(report.get("outcome")).get("failure"))
        self.times: dict[str, tuple[float, float]] = {}
        for line in _list(report.get("timeline")):
            start, seconds = _number(line.get("start"), 0.0), _number(line.get("seconds"), 0.0)
            key = f"{line.get('stage')} {line.get('what')}" if line.get("plugin") == "agent" else str(line.get("what"))
            self.times[key] = (self.started + start, seconds)
        self.checks = [
            one for one in _list(report.get("checks")) if one.get("status") in ("pass", "warn", "fail")
        ][:MOST_RESULTS]  # fmt: skip

    def markers(self) -> str:
        """The lines on standard output."""
        text = ""
        condor = self.times.get("run condor_master")
        if condor is not None:
            began, seconds = condor
            ended = began + seconds
            jobs = int(_number(_mapping(self.report.get("jobs")).get("started"), 0))
            text += (
                f"=== Last script starting {_moment(began)} after validating for {_span(began - self.started)} ===\n"
                f"=== Condor starting {_moment(began)} ===\n"
                f"=== Condor ended {_moment(ended)} after {_span(seconds)} ===\n"
                f"Total number of activations/claims: {jobs}\n"
                f"=== Last script ended {_moment(ended)} with code {self.code} after {_span(seconds)} ===\n"
            )
        alive = _span(self.now - self.started)
        return f"{text}=== Glidein ending {_moment(self.now)} with code {self.code} after {alive} ===\n"

    def validations(self) -> str:
        """The lines on standard error: one for each verdict."""
        lines = []
        for check in self.checks:
            name = _one_line(check.get("name"))
            if check.get("status") == "fail":
                lines.append(f"=== Validation error in {name} ===\n")
            else:
                lines.append(f"=== validation OK in {name} ({_span(self._times_of(check)[1])}) ===\n")
        return "".join(lines)

    def document(self, *, whole: bool) -> str:
        """The pilot's own result; the ``whole`` of it with those of its scripts."""
        failing = self._failing()
        metrics = self._job_metrics()
        detail = ""
        if self.code:
            metrics = {"failure": self._failure_type(failing), "TestID": self._test_id(failing), **metrics}
            detail = f"Validation failed in {self._test_id(failing)}.\n\n{self.failure.get('message') or ''}"
        environment = {name: self.about.get(name) for name in (*SHORT, *(LONG if whole else ()))}
        inner = "".join(map(self._result_of, self.checks)) if whole else ""
        return _result(
            PILOT,
            ok=not self.code,
            metrics=metrics,
            detail=detail,
            environment={"cwd": self.about.get("cwd"), **environment},
            times=(self.started, self.now),
            inner=f"<subtestlist>\n<OSGTestResults>\n{inner}</OSGTestResults>\n</subtestlist>\n" if whole else "",
            command=PILOT if whole else "",
        )

    def _result_of(self, check: Mapping[str, Any]) -> str:
        began, seconds = self._times_of(check)
        bad = check.get("status") == "fail"
        metrics = {name: value for name, value in _mapping(check.get("metrics")).items() if bad or name != "failure"}
        if bad:
            metrics = {"failure": self._failure_type(check)} | metrics
        name, message = str(check.get("name")), str(check.get("message"))
        return _result(name, ok=not bad, metrics=metrics, detail=message if bad else "", environment={},
                       times=(began, began + seconds), inner="", command=name, declared=False)  # fmt: skip

    def _failing(self) -> Mapping[str, Any]:
        """The check that ended the pilot; empty when something else did."""
        failed = [check for check in self.checks if check.get("status") == "fail"]
        same = [check for check in failed if check.get("message") == self.failure.get("message")]
        return next(iter(same), {})

    def _test_id(self, failing: Mapping[str, Any]) -> str:
        return str(failing.get("name") or self.failure.get("code") or UNKNOWN)

    def _failure_type(self, check: Mapping[str, Any]) -> str:
        own = _mapping(check.get("metrics")).get("failure")
        return str(own or FAILURE_TYPES.get(str(check.get("kind") or self.failure.get("kind")), UNKNOWN))

    def _times_of(self, check: Mapping[str, Any]) -> tuple[float, float]:
        return self.times.get(str(check.get("name")), (self.started, 0.0))

    def _job_metrics(self) -> dict[str, Any]:
        """What became of the jobs, once there could be any."""
        condor = self.times.get("run condor_master")
        if condor is None:
            return {}
        jobs = _mapping(self.report.get("jobs"))
        counts = dict.fromkeys(("goodZ", "goodNZ", "badSignal", OTHER_ENDINGS), 0)
        for ending, number in _mapping(jobs.get("ended")).items():
            word, _, value = str(ending).partition(" ")
            kinds = {"exit": "goodZ" if value == "0" else "goodNZ", "signal": "badSignal"}
            counts[kinds.get(word, OTHER_ENDINGS)] += int(_number(number, 0))
        killed = self.failure.get("kind") == "preempted"
        return {
            "AutoShutdown": not self.failure,
            "CondorDuration": int(condor[1]),
            "CondorKilled": killed,
            "TotalJobsNr": int(_number(jobs.get("started"), 0)),
            "TotalJobsTime": int(_number(jobs.get("busy_seconds"), 0)),
            **{f"{name}JobsNr": number for name, number in counts.items()},
        }


def _result(
    name: str,
    *,
    ok: bool,
    metrics: Mapping[str, Any],
    detail: str,
    environment: Mapping[str, Any],
    times: tuple[float, float],
    inner: str,
    command: str,
    declared: bool = True,
) -> str:
    began, ended = times
    head = '<?xml version="1.0"?>\n' if declared else ""
    lines = [f'{head}<OSGTestResult id="{_escaped(name)}" version="{VERSION}">\n']
    if environment:
        given = {key: value for key, value in environment.items() if value not in (None, "")}
        pairs = (f'    <env name="{key}">{_escaped(value)}</env>\n' for key, value in given.items())
        lines += ["  <operatingenvironment>\n", *pairs, "  </operatingenvironment>\n"]
    lines.append("  <test>\n")
    if command:
        lines.append(f"    <cmd>{_escaped(command)}</cmd>\n")
    lines.append(f"    <tStart>{_iso(began)}</tStart>\n    <tEnd>{_iso(ended)}</tEnd>\n  </test>\n  <result>\n")
    lines.append(f"    <status>{'OK' if ok else 'ERROR'}</status>\n")
    for key, value in metrics.items():
        lines.append(f'    <metric name="{_escaped(key)}" ts="{_iso(ended)}" uri="local">{_escaped(value)}</metric>\n')
    lines.append("  </result>\n")
    if detail:
        lines.append(f"  <detail>\n    {_escaped(detail)}\n  </detail>\n")
    return "".join([*lines, inner, "</OSGTestResult>\n"])


def _encoded(document: str) -> str:
    """The document between its markers, packed as factories' tools unpack it; nothing where the modules for that are
    gone with the payload."""
    try:
        import binascii
        import zlib
    except (ImportError, OSError):
        return ""
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)  # with gzip's own header
    content = pack.compress(document.encode("utf-8", "replace")) + pack.flush()
    lines = (binascii.b2a_base64(content[at : at + LINE_BYTES]).decode() for at in range(0, len(content), LINE_BYTES))
    return (
        "=== Encoded XML description of glidein activity ===\nbegin-base64 644 -\n"
        f"{''.join(lines)}====\n=== End encoded XML description of glidein activity ===\n"
    )


def _escaped(value: Any) -> str:
    """A text that XML can hold, of bounded length."""
    text = str(value)[:LONGEST_TEXT]
    clean = "".join(one if one >= " " or one in "\n\t" else " " for one in text if not "\ud7ff" < one < "\ue000")
    clean = clean.replace("\x7f", " ").replace("\ufffe", " ").replace("\uffff", " ")
    return clean.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def _one_line(value: Any) -> str:
    return " ".join(str(value)[:LONGEST_TEXT].split()).replace("===", "= = =")


def _moment(seconds: float) -> str:
    return f"{time.strftime('%a %b %d %H:%M:%S UTC %Y', time.gmtime(seconds))} ({int(seconds)})"


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(seconds))


def _span(seconds: float) -> int:
    return max(0, int(seconds))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> Iterable[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _number(value: Any, default: float) -> float:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1 << 40
    return value if usable else default
