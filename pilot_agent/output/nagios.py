"""The report as a Nagios plugin says it (monitoring-plugins' guidelines): a status line with performance data, then
what should be changed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pilot_agent.model import Json
from pilot_agent.output.read import read
from pilot_agent.output.reading import NOT_THE_NODE, CheckRow, Problem, Reading
from pilot_agent.output.words import clipped, number_text, one_line

OK, WARNING, CRITICAL, UNKNOWN = range(4)
NAMES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
WORST_FIRST = (CRITICAL, UNKNOWN, WARNING, OK)
MOST_BYTES = 3900
"""Nagios reads 4 KiB of a plugin's output unless it was built otherwise; NRPE cuts there too."""
LINE_CHARACTERS = 300
STATUS_CHARACTERS = 160
MIB = 1024 * 1024
PERFORMANCE = (
    ("cores", "cpu.usable", "", 1),
    ("memory", "memory.usable_mib", "B", MIB),
    ("scratch", "disk.workspace_free_mib", "B", MIB),
    ("gpus", "gpu.count", "", 1),
    ("clock_offset", "clock.offset_seconds", "s", 1),
)
"""Label, fact, unit of measurement and the factor to it."""


def nagios(report: Json) -> tuple[int, str]:
    """Exit code and text: 0 fit, 1 fit with warnings, 2 not fit for at least one VO, 3 when nobody can tell (the check
    itself failed, or this is no report). The text ends with a line feed and is at most 4 KiB."""
    found = read(report)
    code = _code(found)
    status = f"PILOT {NAMES[code]} - {_summary(found, code)}"
    lines = [f"{status} | {_performance(found)}"]
    size, more = len(lines[0].encode()), list(_details(found))
    for number, line in enumerate(more):
        size += len(line.encode()) + 1
        if size > MOST_BYTES:
            lines.append(f"... and {len(more) - number} more lines")
            break
        lines.append(line)
    return code, "\n".join(lines) + "\n"


def _code(found: Reading) -> int:
    if found.status not in ("ok", "failed"):
        return UNKNOWN
    codes = {OK}
    for fit in found.fit:
        if not fit.fit:
            codes.add(_code_of(fit.problem))
    if found.problem:
        codes.add(_code_of(found.problem))
    if any(check.status == "warn" for check in found.checks_together()):
        codes.add(WARNING)
    return next(code for code in WORST_FIRST if code in codes)


def _code_of(problem: Problem | None) -> int:
    return UNKNOWN if problem is not None and problem.kind in NOT_THE_NODE else CRITICAL


def _summary(found: Reading, code: int) -> str:
    """What decides the status, in a few words."""
    problem = next((fit.problem for fit in found.fit if not fit.fit and fit.problem), found.problem)
    unfit = [fit for fit in found.fit if not fit.fit]
    if code == UNKNOWN and problem is None:
        return "the check was not finished" if found.status else "no report was made"
    if code in (CRITICAL, UNKNOWN):
        who = f"for {len(unfit)} of {len(found.fit)} VOs" if len(found.fit) > 1 and unfit else ""
        what = "cannot tell" if code == UNKNOWN else "not fit"
        reason = f"{problem.code}: {problem.message}" if problem and problem.code else problem and problem.message
        return _plain(f"{what} {who}".strip() + f": {reason or 'see the checks that fail'}", STATUS_CHARACTERS)
    checks = found.checks_together()
    many = f"fit for {len(found.fit)} VOs" if len(found.fit) > 1 else "fit"
    if code == OK:
        return f"{many}, {len(checks)} check{'' if len(checks) == 1 else 's'}"
    warned = [check.name for check in checks if check.status == "warn"]
    return _plain(f"{many}, {len(warned)} of {len(checks)} checks warn: {', '.join(warned)}", STATUS_CHARACTERS)


def _performance(found: Reading) -> str:
    """``'label'=value[unit];warn;crit;min``, without thresholds: the checks judge, not the monitoring."""
    data = []
    for label, name, unit, factor in PERFORMANCE:
        fact = found.fact(name)
        if fact is not None and fact.number is not None:
            least = "" if label == "clock_offset" else "0"
            data.append(f"'{label}'={_decimal(fact.number * factor)}{unit};;;{least}")
    data.append(f"'failed_checks'={sum(check.status == 'fail' for check in found.checks_together())};;;0")
    data.append(f"'warned_checks'={sum(check.status == 'warn' for check in found.checks_together())};;;0")
    data.append(f"'check_time'={_decimal(found.seconds)}s;;;0")
    return " ".join(data)


def _decimal(number: float) -> str:
    """Digits, a minus and a point only, as the guidelines want; no exponent whatever the size."""
    return re.sub(r"\.?0+$", "", f"{number:.6f}") if isinstance(number, float) else number_text(number)


def _details(found: Reading) -> Iterator[str]:
    """One line for each verdict, failure and warning, with what to change. What decides is not said twice where a
    check says it."""
    said = {(check.code, check.message) for check in found.checks_together() if check.status == "fail"}
    for fit in found.fit:
        if fit.vo:
            yield _plain(f"{fit.name}: {'fit' if fit.fit else 'not fit'}")
        if fit.problem and (fit.problem.code, fit.problem.message) not in said:
            yield from _problem_lines(fit.problem)
    if found.problem and all(fit.fit for fit in found.fit):
        yield from _problem_lines(found.problem)
    for status in ("fail", "warn"):
        for check in found.checks_together():
            if check.status == status:
                yield from _check_lines(check)


def _problem_lines(problem: Problem) -> Iterator[str]:
    yield _plain(f"  {problem.code or problem.kind}: {problem.message}")
    if problem.hint:
        yield _plain(f"  to change it: {problem.hint}")


def _check_lines(check: CheckRow) -> Iterator[str]:
    what = "FAIL" if check.status == "fail" else "warn"
    vo = f" (VO {check.vo})" if check.vo else ""
    yield _plain(f"{what} {check.name}{vo}: {check.message}")
    if check.hint:
        yield _plain(f"  to change it: {check.hint}")


def _plain(text: str, longest: int = LINE_CHARACTERS) -> str:
    """One line without ``|``, behind which performance data would begin."""
    indent = "  " if text.startswith("  ") else ""
    return clipped(indent + one_line(text).replace("|", "¦"), longest)
