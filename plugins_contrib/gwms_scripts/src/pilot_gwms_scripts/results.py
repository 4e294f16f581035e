"""The XML document that a script leaves, and what its end means for the pilot.

Documents in use are not always well formed (details are not escaped), so they are read by their elements and not as
XML. Whatever a document says, the exit code must agree with it.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, replace

from pilot_agent.model import CheckResult, CheckStatus, FailureKind, Json
from pilot_agent.process import Result

DOCUMENT_BYTES = 64 << 10
MOST_METRICS = 200
DETAIL_CHARACTERS = 2000
FAILURE_METRIC = "failure"

KINDS = {
    "wn_resource": FailureKind.NODE_RESOURCE,
    "network": FailureKind.NETWORK,
    "config": FailureKind.CONFIG,
    "vo_config": FailureKind.CONFIG,
    "corruption": FailureKind.CORRUPTION,
    "vo_proxy": FailureKind.CREDENTIAL,
}
"""Type of an error, in any case -> who must act."""
HINTS = {
    FailureKind.NODE_RESOURCE: "the site looks at this node",
    FailureKind.NETWORK: "the site looks at the network of this node, or the server at its end",
    FailureKind.CONFIG: "whoever configured the script corrects what it reads",
    FailureKind.CORRUPTION: "the factory publishes what arrived damaged again",
    FailureKind.CREDENTIAL: "the VO renews its credential",
    FailureKind.PLUGIN: "whoever wrote the script looks at it; its output is in events.jsonl",
}

_STATUS = re.compile(r"<status>\s*(OK|ERROR)\s*</status>", re.IGNORECASE)
_METRIC = re.compile(r'<metric\s[^<>]*?name="([^"<>]{1,256})"[^<>]*>(.*?)</metric>', re.DOTALL)
_DETAIL = re.compile(r"<detail>(.*?)</detail>", re.DOTALL)
_ROOT = re.compile(r"<OSGTestResult[\s>]")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Document:
    """What a script says of its own end."""

    ok: bool
    metrics: dict[str, str]
    detail: str

    @property
    def failure_type(self) -> str:
        """WN_Resource and its like; empty where it names none."""
        return self.metrics.get(FAILURE_METRIC, "")


def parse(text: str) -> Document | None:
    """The document in a text; None where there is none, or no status in it."""
    text = text[:DOCUMENT_BYTES]
    status = _STATUS.search(text)
    if status is None or not _ROOT.search(text):
        return None
    metrics: dict[str, str] = {}
    for match in _METRIC.finditer(text):
        if len(metrics) < MOST_METRICS:
            metrics[_plain(match[1])] = _plain(match[2])
    detail = _DETAIL.search(text)
    return Document(status[1].upper() == "OK", metrics, _plain(detail[1])[:DETAIL_CHARACTERS] if detail else "")


def _plain(text: str) -> str:
    return _UNPRINTABLE.sub(" ", html.unescape(text)).strip()


def verdict(name: str, ended: Result, document: Document | None, *, left: int = 0) -> CheckResult:
    """What the end of a script means. ``left`` processes that it had left were ended."""
    extra = f"; {left} processes that it left were ended" if left else ""
    if ended.ok:
        if document is not None and not document.ok:
            document = None  # as if it had written none
        told = document.detail if document is not None else ""
        passed = CheckResult(name, CheckStatus.PASS, (told or "it passed") + extra)
        return passed if document is None else replace(passed, metrics={**document.metrics})
    if document is not None and document.ok:
        document = None
    kind, code = FailureKind.PLUGIN, "plugin.timeout" if ended.timed_out else "script.failed"
    metrics: dict[str, Json] = {**document.metrics} if document is not None else {}
    message = document.detail if document is not None else ""
    if document is not None and not ended.timed_out:
        kind = KINDS.get(document.failure_type.lower(), FailureKind.PLUGIN)
        code = f"script.{_code(document.failure_type)}"
    if not message or ended.timed_out:
        message = ended.explain()
    message = f"{name}: {_plain(message)[:DETAIL_CHARACTERS]}{extra}"
    return CheckResult(name, CheckStatus.FAIL, message, HINTS[kind], kind=kind, code=code, metrics=metrics)


def _code(failure_type: str) -> str:
    return re.sub(r"[^a-z0-9_]", "_", failure_type.lower())[:40] or "failed"
