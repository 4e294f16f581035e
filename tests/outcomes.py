"""Which tests did not pass at once: `python -m tests.outcomes DIRECTORY` names them after all sessions of a run.

What passes only when it is tried again is to be mended: with enough of them one fails every time it is tried.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

DIRECTORY_VARIABLE = "PILOT_TEST_OUTCOMES"
"""Names the directory in which each session of pytest leaves a file."""
WHY_CHARACTERS = 300
LEFT = "left"
"""The property of a test's report with which its module says what it left on a machine that other tests share."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A test of one session that failed at least once in it, or that this session was to try again."""

    test: str
    python: str
    passed: bool
    why: str
    """How it failed first; empty when it did not in this session."""
    left: bool = False
    """It is no test but a module, and `why` is what it left behind."""


def of_session(stats: dict[str, list[pytest.TestReport]], tried_again: bool) -> list[Outcome]:
    """What the terminal's statistics of a session tell; with `tried_again` also of what passed at once."""
    failed = {report.nodeid for kind in ("failed", "error") for report in stats.get(kind, ())}
    why: dict[str, str] = {}
    for kind in ("rerun", "failed", "error"):
        for report in stats.get(kind, ()):
            why.setdefault(report.nodeid, _why(report))
    if tried_again:
        why |= {report.nodeid: "" for report in stats.get("passed", ()) if report.nodeid not in why}
    version = ".".join(platform.python_version_tuple()[:2])
    left = [
        Outcome(report.nodeid.partition("::")[0], version, True, f"left {value}", left=True)
        for reports in stats.values()
        for report in reports
        if getattr(report, "when", None) == "teardown"
        for name, value in report.user_properties
        if name == LEFT
    ]
    return [*(Outcome(test, version, test not in failed, reason) for test, reason in why.items()), *dict.fromkeys(left)]


def summarise(reporter: pytest.TerminalReporter) -> None:
    """At the end of a session: name what passed when it was tried again, and leave all for the end of the run."""
    if hasattr(reporter.config, "workerinput"):  # a worker of pytest-xdist, whose reports its controller has, too
        return
    tried_again = bool(reporter.config.getoption("lf", False))
    found = of_session(reporter.stats, tried_again)
    for title, left in (("passed when tried again", False), ("left behind", True)):
        lines = [_line(outcome) for outcome in found if outcome.passed and outcome.why and outcome.left is left]
        if lines:
            reporter.section(title)
            reporter.write_line("\n".join(lines))
    directory = os.environ.get(DIRECTORY_VARIABLE)
    if directory and found:
        text = "".join(json.dumps(asdict(outcome)) + "\n" for outcome in found)
        name = f"{len(os.listdir(directory)):04}-{os.uname().nodename}-{os.getpid()}.jsonl"
        (Path(directory) / name).write_text(text, encoding="utf-8")


def account(outcomes: Iterable[Outcome]) -> list[str]:
    """Lines for a person, of outcomes in the order of their sessions: what failed, and what passed only later."""
    first: dict[tuple[str, str], Outcome] = {}
    last: dict[tuple[str, str], Outcome] = {}
    left = []
    for outcome in outcomes:
        if outcome.left:
            left.append(_line(outcome))
            continue
        key = (outcome.test, outcome.python)
        first.setdefault(key, outcome)
        last[key] = outcome
    lines = ["--- left behind, for other tests to stumble over: to be mended ---", *left] if left else []
    for title, passed in (("passed only when tried again: to be mended", True), ("failed", False)):
        found = [_line(first[key]) for key in sorted(first) if last[key].passed is passed]
        if found:
            lines += [f"--- {title} ---", *found]
    return lines or ["--- every test passed at once ---"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the account of a run."""
    parser = argparse.ArgumentParser(prog="python -m tests.outcomes", description=__doc__)
    parser.add_argument("directory", type=Path, help="what the sessions' PILOT_TEST_OUTCOMES named")
    files = sorted(parser.parse_args(arguments).directory.glob("*.jsonl"), key=lambda file: file.stat().st_mtime_ns)
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    print("\n".join(account(Outcome(**json.loads(line)) for line in lines)))
    return 0


def _why(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(getattr(crash, "message", None) or report.longrepr or "").strip()
    return f"{report.when}: {' '.join(text.split())[:WHY_CHARACTERS]}"


def _line(outcome: Outcome) -> str:
    return f"{outcome.test} (Python {outcome.python}) {outcome.why}"


if __name__ == "__main__":
    sys.exit(main())
