"""What people see: facts, checks and plans as tables that fit the terminal."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pilot_agent.model import (
    BenchmarkScore,
    BindVerdict,
    CheckResult,
    CheckStatus,
    ContainerDecision,
    Fact,
    FactStatus,
    Failure,
    JobSurroundings,
    Json,
    worst_failure,
)
from pilot_agent.output.words import clean, finite, number_text
from pilot_agent.spelling import unit_of
from pilot_agent.state import State

GAP = 2
NARROWEST = 16
"""Fewer characters than this are no column that a text can be read in."""
WIDE = 110
"""From this width on there is room for where a fact was read."""
LISTED_CHARACTERS = 120
GIB_IN_MIB = 1024
STACKED = "      "
MARKS = {CheckStatus.PASS: "ok  ", CheckStatus.FAIL: "FAIL", CheckStatus.WARN: "warn", CheckStatus.SKIP: "skip"}
TOLD = "told"


def table(rows: Iterable[Sequence[str]], *, width: int | None = None) -> str:
    """Rows as aligned columns. The last two columns are folded so that no line is wider than the terminal; where that
    leaves them too little room, each row becomes two lines or more, what belongs to the first columns indented."""
    cells = [[clean(str(cell)) for cell in row] for row in rows]
    if not cells:
        return ""
    total = width or terminal_width()
    widths = [max(len(row[index]) for row in cells) for index in range(len(cells[0]))]
    fixed = max(len(widths) - 2, 0) if len(widths) != 2 else 1
    room = total - sum(widths[:fixed]) - GAP * (len(widths) - 1)
    folded = _shared(widths[fixed:], room)
    if folded is None:
        return "\n".join(_stacked(row, fixed, total) for row in cells)
    return "\n".join(_line(row, [*widths[:fixed], *folded]) for row in cells)


def terminal_width() -> int:
    """Columns of the terminal; 100 where there is none."""
    return shutil.get_terminal_size((100, 24)).columns


def _shared(natural: Sequence[int], room: int) -> list[int] | None:
    """The widths of the columns that may be folded: what they would take, or the room shared so that a narrow one is
    not folded for a wide one. None when the room is too small for either."""
    if sum(natural) <= room:
        return list(natural)
    if room < NARROWEST * len(natural):
        return None
    if len(natural) == 1:
        return [room]
    first, last = natural
    if first <= room // 2:
        return [first, room - first]
    if last <= room // 2:
        return [room - last, last]
    share = min(max(room * first // (first + last), NARROWEST), room - NARROWEST)
    return [share, room - share]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    columns = [fold(cell, size) for cell, size in zip(row, widths, strict=True)]
    lines = []
    for number in range(max(map(len, columns))):
        parts = [column[number] if number < len(column) else "" for column in columns]
        lines.append((" " * GAP).join(f"{part:<{size}}" for part, size in zip(parts, widths, strict=True)).rstrip())
    return "\n".join(lines)


def _stacked(row: Sequence[str], fixed: int, total: int) -> str:
    head = (" " * GAP).join(row[:fixed]).rstrip()
    rest = [line for cell in row[fixed:] if cell for line in fold(cell, max(total - len(STACKED), NARROWEST))]
    return "\n".join([*fold(head, total), *(STACKED + line for line in rest)])


def fold(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` characters, broken at spaces; a path that is too long for a line at its slashes, and
    only a word that has none anywhere. What could steer a terminal is replaced."""
    text = clean(text)
    if len(text) <= width and text.isprintable():
        return [text]
    lines = [""]
    for word in text.split():
        glue = " " if lines[-1] else ""
        for piece in [word] if len(word) <= width else _pieces(word, width):
            if len(lines[-1]) + len(glue) + len(piece) <= width:
                lines[-1] += glue + piece
            else:
                lines.append(piece)
            glue = ""
    return lines


def _pieces(word: str, width: int) -> list[str]:
    parts = re.findall(r"/?[^/]+|/", word)
    return [part[start : start + width] for part in parts for start in range(0, len(part), width)]


def paragraph(text: str, *, indent: str = "", width: int | None = None) -> str:
    """A text folded to the terminal, every line but the first two columns further in."""
    first, *rest = fold(text, (width or terminal_width()) - len(indent) - GAP)
    return "\n".join([indent + first, *(indent + " " * GAP + line for line in rest)])


def facts(state: State) -> str:
    """Every fact: name, value with unit and what is to be said of it, and on a wide terminal where it was read."""
    return _fact_table([_with_detail(fact) for _, fact in sorted(state.facts.items())])


def _with_detail(fact: Fact) -> Fact:
    """The fact with its detail in the value, as a table shows it."""
    if not fact.known or not fact.detail or fact.value is False:
        return fact
    return replace(fact, value=f"{_value(fact)} - {fact.detail}", unit=None, detail="")


def _fact_table(shown: Iterable[Fact], indent: str = "") -> str:
    wide = terminal_width() >= WIDE
    return table((indent + fact.name, *_told(fact, wide=wide)) for fact in shown)


def _told(fact: Fact, *, wide: bool) -> tuple[str, ...]:
    """Value and source; where there is no room for a source, the value with the one that decides it."""
    if wide:
        return _value(fact), fact.source
    decided = f" (by {fact.source})" if len(fact.limits) > 1 else ""
    return (_value(fact) + decided,)


def _value(fact: Fact) -> str:
    if fact.status is not FactStatus.KNOWN:
        return f"{fact.status.value}: {fact.detail}"
    if fact.value is False and fact.detail:
        return f"no: {fact.detail}"
    if isinstance(fact.value, list):
        text = _listed([_item(item) for item in fact.value])
    elif isinstance(fact.value, dict):
        text = _listed([f"{name} {_plain(item)}" for name, item in fact.value.items()])
    else:
        text = _plain(fact.value)
    mib = finite(fact.value)
    if fact.unit == "MiB" and mib is not None and mib >= GIB_IN_MIB:
        return f"{text} MiB ({mib / GIB_IN_MIB:.1f} GiB)"
    return f"{text} {unit_of(fact.value, fact.unit)}" if fact.unit and fact.unit not in ("", "bool") else text


def _listed(items: Sequence[str]) -> str:
    """The items, of many the first few and how many more there are; ``--json`` has them all."""
    shown = 1
    while shown < len(items) and len(", ".join(items[: shown + 1])) <= LISTED_CHARACTERS:
        shown += 1
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return (", ".join(items[:shown]) or "none") + more


def _item(item: object) -> str:
    if isinstance(item, dict):
        named = item.get("path") or item.get("name") or item.get("repository")
        state = item.get("state") or ("unusable" if item.get("usable") is False else "")
        reason = f" ({state}: {item['reason']})" if state and item.get("reason") else f" ({state})" if state else ""
        return f"{named}{reason}" if named else _plain(item)
    return _plain(item)


def _plain(value: object) -> str:
    """A value as words: what is inside an object or a list without the marks of a programming language."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "unknown"
    if isinstance(value, int):
        return number_text(value)
    if isinstance(value, dict):
        return " ".join(f"{name} {_plain(item)}" for name, item in value.items())
    if isinstance(value, list):
        return " ".join(_plain(item) for item in value) or "none"
    return str(value)


def check_report(state: State, *, recorded: bool = False) -> str:
    """The page that ``check`` prints: the node in brief, the checks, the container decision, the verdict, for each VO
    where there are several. ``recorded``: it is not the node itself that was looked at."""
    parts = [_heading(state), _brief(state)]
    shared = _shared_checks(state)
    parts.append(_checks("Checks" if len(state.verdicts) < 2 else "Checks, the same for every VO", shared))
    if len(state.verdicts) < 2:
        parts += [cvmfs(state.cvmfs), _container(state.container)]
    for one in state.verdicts if len(state.verdicts) > 1 else ():
        own = [check for check in state.checks if check.vo == one.vo and replace(check, vo="") not in shared]
        title = clean(f"For the VO {one.vo}")
        parts += [_checks(title, own) or title, cvmfs(one.cvmfs), _container(one.container)]
    parts += [_services(state), _benchmarks(state), _leftovers(state), _count(state)]
    parts.append(verdict(state, recorded=recorded))
    return "\n\n".join(part for part in parts if part) + "\n"


def _services(state: State) -> str:
    rows = [("  ", one.name, one.status, one.message) for one in state.services]
    return "Services\n" + table(rows) if rows else ""


def _benchmarks(state: State) -> str:
    rows = [("  ", one.name, *_score(one)) for one in state.benchmarks]
    return "Benchmarks\n" + table(rows) if rows else ""


def _score(one: BenchmarkScore) -> tuple[str, str]:
    if one.score is None:
        return one.status, one.message
    return f"{one.score:g} {one.unit}", "kept on the node" if one.cached else f"in {one.seconds:.1f} s"


def _leftovers(state: State) -> str:
    rows = [("  ", f"{one['kind']} {one.get('pid') or one.get('path', '')}", one["cause"]) for one in state.leftovers]
    return "Left behind\n" + table(rows) if rows else ""


def _heading(state: State) -> str:
    return clean(f"pilot-agent {state.version} on {state.host} as {state.user}")


BRIEF = (
    "cpu.usable",
    "cpu.model",
    "memory.usable_mib",
    "disk.workspace_free_mib",
    "gpu.count",
    "os.pretty_name",
    "os.kernel",
    "os.arch",
    "os.microarch",
    "os.glibc",
    "userns.usable",
    "fuse.usable",
    "cvmfs.repositories",
    "batch.system",
)


def _brief(state: State) -> str:
    known = [state.facts[name] for name in BRIEF if name in state.facts]
    return _fact_table(known, indent="  ")


def _shared_checks(state: State) -> list[CheckResult]:
    """The checks with the same verdict for every VO, each once and without its VO."""
    nameless = [replace(check, vo="") for check in state.checks]
    return [check for check in dict.fromkeys(nameless) if nameless.count(check) >= len(state.verdicts)]


def _count(state: State) -> str:
    """How the checks ended, in numbers."""
    words = {CheckStatus.FAIL: "failed", CheckStatus.WARN: "warned", CheckStatus.PASS: "passed"}
    words[CheckStatus.SKIP] = "skipped"
    told = dict.fromkeys(replace(check, vo="") for check in state.checks)
    judged = [check for check in told if not _only_told(check)]
    counts = [(sum(check.status is status for check in judged), word) for status, word in words.items()]
    counts.append((len(told) - len(judged), "told"))
    return ", ".join(f"{number} {word}" for number, word in counts if number)


def _checks(title: str, checks: Iterable[CheckResult]) -> str:
    """What failed stands first, as it is what a person came for."""
    order = [CheckStatus.FAIL, CheckStatus.WARN, CheckStatus.PASS, CheckStatus.SKIP]
    rows = []
    for result in sorted(checks, key=lambda check: order.index(check.status)):
        rows.append((f"  {TOLD if _only_told(result) else MARKS[result.status]}", result.name, result.message))
        if result.hint and result.status in (CheckStatus.FAIL, CheckStatus.WARN):
            rows.append(("", "", f"-> {result.hint}"))
    return f"{title}\n" + table(rows) if rows else ""


def _only_told(check: CheckResult) -> bool:
    """Whether it is a requirement of level ``reported`` that is not met; what could not be judged has no code."""
    return check.status is CheckStatus.SKIP and check.code.startswith("requirement.")


def cvmfs(ladder: Json) -> str:
    """The ways to CVMFS as the report has them, the best first; in brackets cvmfsexec's mode. Empty for None."""
    if ladder is None:
        return ""
    names = {
        rung["name"]: f"{rung['name']} ({rung['mode']})" if rung["mode"] else rung["name"] for rung in ladder["rungs"]
    }
    rows = [(f"  {rung['state']}", names[rung["name"]], rung["reason"]) for rung in ladder["rungs"]]
    return paragraph(f"CVMFS: {ladder['decision']} ({ladder['cell']}) - {ladder['reason']}") + "\n" + table(rows)


def _container(decision: ContainerDecision | None) -> str:
    if decision is None:
        return ""
    lines = [paragraph(f"Containers: {decision.decision} ({decision.cell}) - {decision.reason}")]
    if decision.runtime:
        runtime = decision.runtime
        lines.append(paragraph(f"runtime {runtime.path} {runtime.version}, {runtime.mode}", indent="  "))
    rows = [("  taken " if v.taken else "  not   ", v.platform, v.path, v.reason) for v in decision.verdicts]
    if rows:
        lines.append(table(rows))
    lines.append(surroundings(decision.surroundings))
    return "\n".join(filter(None, lines))


def surroundings(found: JobSurroundings) -> str:
    """What jobs get beside their image, and what somebody asked for in vain, each with who asked."""
    rows = [(one.given, _bound(one), one.asked_by, one.reason) for one in found.binds]
    rows += [(one.given, one.option, one.asked_by, one.reason) for one in found.options]
    rows += [(one.given, one.name, one.asked_by, one.reason) for one in found.environment]
    told = [
        ("  given" if given else "  not  ", what, f"{who}: {why}" if why else who) for given, what, who, why in rows
    ]
    return table(told) if told else ""


def _bound(bind: BindVerdict) -> str:
    place = f"{bind.source} at {bind.destination}" if bind.source != bind.destination else bind.source
    return f"{place} (read-only)" if bind.read_only else place


def verdict(state: State, *, width: int | None = None, recorded: bool = False) -> str:
    """Fit or not, and if not, why and what would change it; for each VO where there are several."""
    limits = ", as far as a recording can tell" if recorded else ""
    if len(state.verdicts) < 2:
        name = f" for {state.verdicts[0].vo}" if state.verdicts and state.verdicts[0].vo else ""
        worst = worst_failure(list(state.failures))
        return _verdict(name, worst, _more(state.checks, worst), limits, width)
    told = []
    for one in state.verdicts:
        more = _more((check for check in state.checks if check.vo == one.vo), one.failure)
        told.append(_verdict(f" for {one.vo}", one.failure, more, limits, width))
    return "\n".join(told)


def _more(checks: Iterable[CheckResult], told: Failure | None) -> str:
    """How many other checks failed, for the end of a verdict that tells one failure."""
    failed = [check for check in checks if check.status is CheckStatus.FAIL]
    number = sum(1 for check in failed if told is not None and check.message != told.message)
    return f"; and {number} more, see above" if number else ""


def _verdict(whom: str, failure: Failure | None, more: str, limits: str, width: int | None) -> str:
    if failure is None:
        return clean(f"This node is fit{whom}{limits}.")
    said = f"This node is NOT fit{whom}: {failure.message} ({failure.kind}, {failure.code}){more}"
    lines = [paragraph(said, width=width)]
    if failure.hint:
        lines.append(paragraph(f"to change it: {failure.hint}", indent="  ", width=width))
    return "\n".join(lines)
