"""What people see: facts, checks and plans as tables that fit the terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence

from pilot_agent.hookspecs import DECLARATIONS
from pilot_agent.host import Loaded
from pilot_agent.model import CheckStatus, Fact, FactStatus, worst_failure
from pilot_agent.state import State

MARKS = {CheckStatus.PASS: "ok  ", CheckStatus.FAIL: "FAIL", CheckStatus.WARN: "warn", CheckStatus.SKIP: "skip"}


def table(rows: Iterable[Sequence[str]], *, width: int | None = None) -> str:
    """Rows as aligned columns; the last column is folded so that no line is wider than the terminal."""
    cells = [[str(cell) for cell in row] for row in rows]
    if not cells:
        return ""
    total = width or shutil.get_terminal_size((100, 24)).columns
    widths = [max(len(row[index]) for row in cells) for index in range(len(cells[0]) - 1)]
    indent = sum(widths) + 2 * len(widths)
    room = max(total - indent, 20)
    lines = []
    for row in cells:
        head = "".join(f"{cell:<{size}}  " for cell, size in zip(row, widths, strict=False))
        folded = textwrap.wrap(row[-1], room, break_long_words=True) or [""]
        lines.append((head + folded[0]).rstrip())
        lines += [" " * indent + part for part in folded[1:]]
    return "\n".join(lines)


def facts(state: State) -> str:
    """Every fact: name, value with unit, where it was read."""
    return table((fact.name, _value(fact), fact.source) for _, fact in sorted(state.facts.items()))


def _value(fact: Fact) -> str:
    if fact.status is not FactStatus.KNOWN:
        return f"{fact.status.value}: {fact.detail}"[:70]
    if isinstance(fact.value, list):
        text = ", ".join(_item(item) for item in fact.value) or "none"
    elif isinstance(fact.value, bool):
        text = "yes" if fact.value else "no"
    else:
        text = str(fact.value)
    text = f"{text} {fact.unit}" if fact.unit and fact.unit not in ("", "bool") else text
    return text if len(text) <= 48 else text[:45] + "..."


def _item(item: object) -> str:
    if isinstance(item, dict):
        return str(item.get("path") or item.get("name") or item.get("repository") or item)
    return str(item)


def check_report(state: State) -> str:
    """The page that ``check`` prints: the node in brief, the checks, the container decision, the verdict."""
    parts = [_heading(state), _brief(state), _checks(state)]
    if state.container is not None:
        parts.append(_container(state))
    parts.append(verdict(state))
    return "\n\n".join(part for part in parts if part) + "\n"


def _heading(state: State) -> str:
    return f"pilot-agent {state.version} on {state.host} as {state.user}"


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
    return table((f"  {fact.name}", _value(fact), fact.source) for fact in known)


def _checks(state: State) -> str:
    rows = []
    for result in state.checks:
        hint = f" - {result.hint}" if result.hint and result.status is not CheckStatus.PASS else ""
        rows.append((f"  {MARKS[result.status]}", result.name, result.message + hint))
    return "Checks\n" + table(rows) if rows else ""


def _container(state: State) -> str:
    decision = state.container
    if decision is None:
        return ""
    lines = [f"Containers: {decision.decision} ({decision.cell}) - {decision.reason}"]
    if decision.runtime:
        runtime = decision.runtime
        lines.append(f"  runtime {runtime.path} {runtime.version}, {runtime.mode}")
    rows = [("  taken " if v.taken else "  not   ", v.platform, v.path, v.reason) for v in decision.verdicts]
    if rows:
        lines.append(table(rows))
    return "\n".join(lines)


def verdict(state: State) -> str:
    """One line: fit or not, and if not, why and what would change it."""
    failure = worst_failure(list(state.failures))
    if failure is None:
        return "This node is fit."
    hint = f"\n  to change it: {failure.hint}" if failure.hint else ""
    return f"This node is NOT fit: {failure.message} ({failure.kind}, {failure.code}){hint}"


def plugin_table(loaded: Loaded) -> str:
    """Plugins with their source, hooks and number of declarations."""
    rows = [("plugin", "declared", "hooks", "from")]
    rows += [(p.name, str(p.declared), " ".join(p.hooks), p.source) for p in loaded.plugins]
    return table(rows)


def plan_table(loaded: Loaded) -> str:
    """What would run, stage by stage, in the order in which plugins were loaded."""
    rows = []
    for hook in DECLARATIONS:
        for declared in loaded.of(hook):
            name = getattr(declared.record, "name", None) or getattr(declared.record, "platform", "")
            rows.append((hook.removeprefix("pilot_"), str(name), declared.plugin))
    return table(rows)
