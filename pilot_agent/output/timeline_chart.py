"""The timeline as a chart: one row per thing that ran, on one axis of seconds, stage by stage.

Names stand in a column of their own and the bars in SVG whose horizontal positions are percentages, so that the chart
fits a wide screen, a telephone and paper while its letters stay as large as those around it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pilot_agent.output.markup import Markup, tag
from pilot_agent.output.reading import Span
from pilot_agent.output.words import clipped, number_text, one_line, seconds_text, shortened

ROW = 22
"""Pixels; the style sheet gives the names the same height."""
MOST_ROWS = 400
MOST_TICKS = 5
GOOD = frozenset({"ok", "ready", "pass"})
BAD = frozenset({"failed", "fail", "timeout", "crashed", "error", "killed"})
LABEL_SHARE = 0.24
"""The part of the width that the text beside a bar may need on a narrow page."""


@dataclass(frozen=True, slots=True)
class _Scale:
    first: float
    length: float
    ticks: tuple[float, ...]

    def percent(self, seconds: float) -> float:
        """The place of a moment, 0 to 100."""
        return min(max((seconds - self.first) / self.length * 100, 0.0), 100.0)


def timeline_chart(spans: Iterable[Span]) -> Markup:
    """The chart of these entries; of more than ``MOST_ROWS`` those that took longest. Empty when there are none."""
    everything = list(spans)
    if not everything:
        return Markup("")
    kept = sorted(everything, key=lambda span: (not span.is_stage, -span.seconds))[:MOST_ROWS]
    scale = _scale(kept)
    lanes = [_lane(members, scale) for members in _by_stage(kept)]
    left_out = len(everything) - len(kept)
    note = f"The {left_out} shortest entries are only in the table below." if left_out else ""
    return tag(
        "figure",
        tag("figcaption", _key(), tag("p", note, class_="small quiet") if note else ""),
        _axis(scale),
        *lanes,
        class_="chart",
    )


def _scale(spans: Sequence[Span]) -> _Scale:
    """From the first start (at most 0) to the first round number at or after the last end."""
    first = min(0.0, *(span.start for span in spans))
    length = max(max(span.start + span.seconds for span in spans) - first, 1e-3)
    power = 10.0 ** math.floor(math.log10(length / MOST_TICKS))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * MOST_TICKS >= length * 0.9999)
    count = math.ceil(length / step - 1e-4)
    return _Scale(first, count * step, tuple(first + number * step for number in range(count + 1)))


def _by_stage(spans: Sequence[Span]) -> list[list[Span]]:
    """The entries of each stage, the stage's own first, the others by their start; stages by theirs."""
    stages: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: (span.start, span.what)):
        stages.setdefault(span.stage, []).append(span)
    return [sorted(members, key=lambda span: not span.is_stage) for members in stages.values()]


def _axis(scale: _Scale) -> Markup:
    texts = []
    for place, tick in enumerate(scale.ticks):
        anchor = "start" if place == 0 else "end" if place == len(scale.ticks) - 1 else "middle"
        words = f"{number_text(round(tick, 9))} s"
        texts.append(tag("text", words, x=_percent(scale.percent(tick)), y="15", text_anchor=anchor, class_="tick"))
    names = tag("div", tag("div", "seconds", class_="quiet"), class_="names")
    return tag("div", names, _svg(texts, 1), class_="lane axis", aria_hidden="true")


def _lane(members: Sequence[Span], scale: _Scale) -> Markup:
    lines = [
        tag("line", x1=_percent(at), x2=_percent(at), y1="0", y2=str(ROW * len(members)))
        for at in (scale.percent(tick) for tick in scale.ticks)
    ]
    names = [
        tag("div", clipped(_name(span), 60), title=_title(span), class_="stage" if span.is_stage else None)
        for span in members
    ]
    bars = [_bar(span, scale, row) for row, span in enumerate(members)]
    return tag("div", tag("div", *names, class_="names"), _svg([*lines, *bars], len(members)), class_="lane")


def _svg(content: Sequence[Markup], rows: int) -> Markup:
    return tag("svg", *content, height=str(ROW * rows), role="group", xmlns="http://www.w3.org/2000/svg")


def _bar(span: Span, scale: _Scale, row: int) -> Markup:
    start, end = scale.percent(span.start), scale.percent(span.start + span.seconds)
    top, width = str(row * ROW + 4), _percent(max(end - start, 0.05))
    bar = tag("rect", x=_percent(start), y=top, width=width, height=str(ROW - 8), rx="2", class_=_colour(span))
    return tag("g", tag("title", _title(span)), bar, _beside(span, start, end, row))


def _beside(span: Span, start: float, end: float, row: int) -> Markup:
    """How long it took, and how it ended unless well: right of the bar, left of it, or inside, where there is room."""
    words = seconds_text(span.seconds) + ("" if span.status in GOOD else f" {clipped(one_line(span.status), 12)}")
    baseline = str(row * ROW + 15)
    if 100 - end >= LABEL_SHARE * 100:
        return tag("text", words, x=_percent(end), dx="6", y=baseline)
    if start >= LABEL_SHARE * 100:
        return tag("text", words, x=_percent(start), dx="-6", y=baseline, text_anchor="end")
    return tag("text", words, x=_percent(start), dx="6", y=baseline, class_="in")


def _colour(span: Span) -> str | None:
    if span.status in BAD:
        return "bad"
    if span.status not in GOOD:
        return "other"
    return "stage" if span.is_stage else None


def _name(span: Span) -> str:
    return one_line(span.stage).replace("_", " ") if span.is_stage else one_line(span.what)


def _title(span: Span) -> str:
    """What a pointer that rests on a row tells."""
    what = f"stage {span.stage}" if span.is_stage else f"{span.what} ({span.plugin}, stage {span.stage})"
    words = f"{what}: from {seconds_text(max(span.start, 0))}, took {seconds_text(span.seconds)}, {span.status}"
    return shortened(one_line(f"{words}: {span.detail}" if span.detail else words), 500)


def _percent(number: float) -> str:
    return f"{number:.3f}%"


def _key() -> Markup:
    entries = (
        ("stage", "a whole stage"),
        ("", "ended well"),
        ("bad", "failed"),
        ("other", "other end, named beside it"),
    )
    return tag("p", *(tag("span", tag("i", class_=name), text) for name, text in entries), class_="key")
