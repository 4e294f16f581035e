"""The facts as tables: every value with its unit, where it was read, why it is missing, and the limits behind it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from pilot_agent.model import Json
from pilot_agent.output.markup import Markup, joined, table, tag
from pilot_agent.output.reading import FactRow
from pilot_agent.output.words import clean, number_text, shortened, size_text, value_text
from pilot_agent.spelling import unit_of

FOLDED_FROM = 240
"""A longer value is folded: its beginning shows, all of it on request."""
SUMMARY_CHARACTERS = 90
LONGEST_VALUE = 20_000
MOST_LINES = 40
MOST_COLUMNS = 8
MOST_ROWS = 200
GIB_FROM_MIB = 1024


def fact_groups(facts: Sequence[FactRow]) -> Markup:
    """A table for each group of facts, in the report's order."""
    groups: dict[str, list[FactRow]] = {}
    for fact in facts:
        groups.setdefault(fact.group, []).append(fact)
    return joined(_group(name, members) for name, members in groups.items())


def _group(name: str, members: Sequence[FactRow]) -> Markup:
    rows = [
        (joined(_names(same)), fact_value(same[0]), shortened(same[0].source, 300)) for same in _alike(members).values()
    ]
    tables = [table(shortened(name, 100), ("fact", "value", "read from"), rows, kind="facts")]
    tables += [_items(fact) for fact in members if fact.status == "known" and _is_items(fact.value)]
    return tag("div", *tables, class_="group")


def _alike(members: Sequence[FactRow]) -> dict[tuple[str, ...], list[FactRow]]:
    """The facts, those that are missing for one reason together."""
    found: dict[tuple[str, ...], list[FactRow]] = {}
    for fact in members:
        key = (fact.name,) if fact.status == "known" else ("", fact.status, fact.source, fact.detail)
        found.setdefault(key, []).append(fact)
    return found


def _names(same: Sequence[FactRow]) -> Iterator[str]:
    for place, fact in enumerate(same):
        yield ", " if place else ""
        yield tag("code", shortened(fact.name, 100))
        if fact.where == "inside":
            yield tag("span", " measured inside", class_="quiet small")


def fact_value(fact: FactRow) -> Markup:
    """The value with unit, detail and limits; for a fact that is not known the reason."""
    detail = shortened(fact.detail)
    if fact.status != "known":
        return joined([tag("span", fact.status, class_="mark"), " ", detail])
    said = tag("div", detail, class_="quiet small") if detail else ""
    return joined([value_markup(fact.value, fact.unit), _date(fact), said, _limits(fact)])


def _date(fact: FactRow) -> str:
    """A moment in seconds since 1970 as people write it."""
    number = fact.number
    if not fact.name.endswith("_time") or number is None or not 1e9 <= number < 1e11:
        return ""
    return time.strftime(" (%Y-%m-%d %H:%M UTC)", time.gmtime(number))


def value_markup(value: Json, unit: str = "") -> Markup:
    """A value: short ones as they are, long ones folded, mappings one entry a line."""
    if _is_items(value):
        return Markup(f"{len(value)} in the table below" if len(value) > 1 else "1 in the table below")
    if isinstance(value, dict) and 1 < len(value) <= MOST_LINES:
        entries = [tag("li", f"{clean(str(key))}: {shortened(value_text(item), 300)}") for key, item in value.items()]
        return tag("ul", *entries, class_="list")
    text = with_unit(value, unit)
    if len(text) <= FOLDED_FROM:
        return joined([text])
    count = f"{len(value)} entries: " if isinstance(value, list) else ""
    summary = tag("summary", f"{count}{text[:SUMMARY_CHARACTERS]}…")
    return tag("details", summary, shortened(text, LONGEST_VALUE))


def with_unit(value: Json, unit: str) -> str:
    """``4 cores``; a size of at least a GiB also in the unit that people think in."""
    text = value_text(value)
    if not unit or unit == "bool":
        return text
    text = f"{text} {unit_of(value, unit)}"
    is_size = unit == "MiB" and isinstance(value, int | float) and not isinstance(value, bool)
    if is_size and GIB_FROM_MIB <= abs(value) < 1e15:
        return f"{text} ({size_text(value)})"
    return text


def _limits(fact: FactRow) -> Markup:
    """Every bound, smallest first, the deciding one marked."""
    if len(fact.bounds) < 2 and (not fact.bounds or fact.bounds[0].source == fact.source):
        return Markup("")
    unit = f" {fact.unit}" if fact.unit else ""
    entries = [
        tag(
            "li",
            f"{'▸ ' if bound.decides else ''}{number_text(bound.number)}{unit}: {shortened(bound.source, 300)}",
            " - decides" if bound.decides else "",
            class_="decides" if bound.decides else None,
        )
        for bound in fact.bounds[:MOST_LINES]
    ]
    if len(fact.bounds) > MOST_LINES:
        entries.append(tag("li", f"and {len(fact.bounds) - MOST_LINES} more"))
    return tag("ul", *entries, class_="limits", aria_label="limits")


def _is_items(value: Json) -> bool:
    """A list of things that each have fields, such as GPUs."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) and item for item in value)


def _items(fact: FactRow) -> Markup:
    """The things that a fact lists, one a row; fields that are too many for columns together in the last."""
    items = fact.value[:MOST_ROWS]
    keys: dict[str, None] = {}
    for item in items:
        keys.update(dict.fromkeys(item))
    columns = list(keys)[: MOST_COLUMNS if len(keys) <= MOST_COLUMNS else MOST_COLUMNS - 1]
    others = len(keys) > len(columns)
    heads = [shortened(clean(str(key)), 60) for key in columns] + ["more"] * others
    rows = []
    for item in items:
        row = [shortened(_field(item.get(key)), 600) for key in columns]
        if others:
            rest = {key: value for key, value in item.items() if key not in columns and value not in (None, "", [], {})}
            row.append(shortened(value_text(rest) if rest else "", 600))
        rows.append(row)
    caption = shortened(fact.full_name, 100)
    left_out = len(fact.value) - len(items)
    return table(caption + (f" ({left_out} more are left out)" if left_out else ""), heads, rows, kind="items")


def _field(value: Json) -> str:
    return "" if value is None or value in ("", [], {}) else value_text(value)
