"""What a server's ``check`` found: each thing that was looked at with its verdict, and the exit code of all."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from pilot_agent.model import Failure, FailureKind, Json, worst_failure


class Verdict(enum.StrEnum):
    """How it stands with one thing: as it should be, to be looked at, or in the way of the server's work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``kind`` says who must act where it failed."""

    name: str
    verdict: Verdict
    message: str
    hint: str = ""
    kind: FailureKind = FailureKind.CONFIG

    def document(self) -> dict[str, Json]:
        """As JSON."""
        return {"name": self.name, "verdict": self.verdict.value, "message": self.message, "hint": self.hint}


def good(name: str, message: str) -> Finding:
    """It is as it should be."""
    return Finding(name, Verdict.OK, message)


def doubtful(name: str, message: str, hint: str = "") -> Finding:
    """It works, and should be looked at."""
    return Finding(name, Verdict.WARN, message, hint)


def bad(name: str, message: str, hint: str = "", *, kind: FailureKind = FailureKind.CONFIG) -> Finding:
    """It is in the way."""
    return Finding(name, Verdict.FAIL, message, hint, kind)


def failed(name: str, failure: Failure) -> Finding:
    """A failure as a finding."""
    return Finding(name, Verdict.FAIL, failure.message, failure.hint, failure.kind)


def exit_code(findings: Iterable[Finding]) -> int:
    """0, or that of the kind of failure that goes before the others."""
    failures = [Failure(one.kind, one.name, one.message) for one in findings if one.verdict is Verdict.FAIL]
    worst = worst_failure(failures)
    return worst.exit_code if worst is not None else 0
