"""Scores as bars, for a terminal and as an SVG picture: the repetitions of a benchmark, and nodes beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pilot_agent.output.markup import Markup, joined, tag
from pilot_agent.output.words import clipped, number_text, one_line

MOST_BARS = 40
BLOCK, PLAIN_BLOCK = "█", "#"
NARROWEST = 8
LONGEST_LABEL = 24
ROW, TITLE = 20, 26
WIDTH, LABEL_WIDTH, VALUE_WIDTH = 720, 190, 150
"""Pixels of the picture: all of it, the names at the left, the numbers at the right."""


@dataclass(frozen=True, slots=True)
class Bars:
    """Numbers of one unit that are to be compared, each with its label. Their common scale begins at 0."""

    title: str
    unit: str
    bars: tuple[tuple[str, float], ...]


def terminal_bars(groups: Sequence[Bars], width: int, *, plain: bool = False) -> str:
    """The bars as lines of at most ``width`` characters; ``plain`` where the terminal shows ASCII only."""
    parts = []
    for group in groups:
        shown = group.bars[:MOST_BARS]
        labels = [clipped(one_line(label), LONGEST_LABEL) for label, _ in shown]
        values = [number_text(value) for _, value in shown]
        column = max(map(len, labels))
        room = max(NARROWEST, width - column - max(map(len, values)) - 6)
        largest = max(value for _, value in shown) or 1.0
        lines = [f"{clipped(one_line(group.title), LONGEST_LABEL)}, {group.unit}"]
        for label, value, (_, number) in zip(labels, values, shown, strict=True):
            bar = (PLAIN_BLOCK if plain else BLOCK) * round(number / largest * room)
            lines.append(f"  {label:<{column}}  {bar:<{room}}  {value}".rstrip())
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def svg_bars(heading: str, groups: Sequence[Bars]) -> str:
    """The same as an SVG document that needs nothing else."""
    parts: list[Markup] = []
    top = 2 * TITLE
    for group in groups:
        parts.append(_text(10, top, f"{group.title}, {group.unit}", weight="bold"))
        top += TITLE
        largest = max(value for _, value in group.bars) or 1.0
        for label, value in group.bars[:MOST_BARS]:
            length = value / largest * (WIDTH - LABEL_WIDTH - VALUE_WIDTH)
            parts.append(_text(20, top, clipped(one_line(label), LONGEST_LABEL)))
            parts.append(
                tag("rect", x=f"{LABEL_WIDTH}", y=f"{top - 12}", width=f"{length:.1f}", height="14", fill="#3465a4")
            )
            parts.append(_text(LABEL_WIDTH + length + 6, top, number_text(value)))
            top += ROW
        top += ROW // 2
    return str(
        tag(
            "svg",
            tag("title", heading),
            tag("rect", width="100%", height="100%", fill="#ffffff"),
            _text(10, TITLE, clipped(one_line(heading), 90), weight="bold"),
            joined(parts),
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {WIDTH} {top}",
            font_family="sans-serif",
            font_size="13",
        )
    )


def _text(x: float, y: float, words: str, *, weight: str | None = None) -> Markup:
    return tag("text", words, x=f"{x:.1f}", y=f"{y:.1f}", font_weight=weight)
