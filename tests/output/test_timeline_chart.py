"""The chart shows every entry on one axis, in the order in which things happened."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.output.reading import Span
from pilot_agent.output.timeline_chart import MOST_ROWS, timeline_chart

BAR = re.compile(r'<rect x="([\d.]+)%" y="(\d+)" width="([\d.]+)%"')
TICK = re.compile(r'class="tick">([^<]*) s<')


def entry(what: str, start: float, seconds: float, stage: str = "probe", status: str = "ok") -> Span:
    """An entry of the timeline."""
    plugin = "agent" if what == "stage" else "builtin"
    return Span(stage, plugin, what, start, seconds, status, "")


spans = st.builds(
    entry,
    st.sampled_from(["stage", "cpu", "memory"]),
    st.floats(-10, 3e9),
    st.floats(0, 3e9),
    st.sampled_from(["probe", "mount"]),
    st.sampled_from(["ok", "failed", "strange"]),
)


def test_nothing_ran_so_there_is_no_chart() -> None:
    assert timeline_chart([]) == ""


@given(st.lists(spans, min_size=1, max_size=30))
def test_every_entry_has_a_bar_inside_the_chart(entries: list[Span]) -> None:
    bars = BAR.findall(timeline_chart(entries))
    assert len(bars) == len(entries)
    assert all(0 <= float(x) <= 100 and float(width) > 0 and float(x) + float(width) <= 100.1 for x, _, width in bars)


@given(st.lists(spans, min_size=1, max_size=5))
def test_the_axis_has_a_few_marks_that_rise(entries: list[Span]) -> None:
    ticks = [float(text) for text in TICK.findall(timeline_chart(entries))]
    assert 2 <= len(ticks) <= 7
    assert ticks == sorted(ticks)
    assert ticks[0] <= 0


def test_the_marks_are_round_and_reach_the_end() -> None:
    assert TICK.findall(timeline_chart([entry("cpu", 0.1, 7.7)])) == ["0", "2", "4", "6", "8"]


def test_a_bar_stands_where_it_ran() -> None:
    assert BAR.findall(timeline_chart([entry("cpu", 2.0, 1.0), entry("gpu", 3.0, 5.0)])) == [
        ("25.000", "4", "12.500"),
        ("37.500", "26", "62.500"),
    ]


def test_what_was_too_short_to_see_has_a_bar_still() -> None:
    (bar, _) = BAR.findall(timeline_chart([entry("cpu", 0, 0), entry("gpu", 0, 100)]))
    assert float(bar[2]) > 0


def test_a_stage_comes_before_what_ran_in_it() -> None:
    chart = timeline_chart([entry("late", 2, 1), entry("early", 1, 1), entry("stage", 0.9, 3)])
    assert re.findall(r">(late|early|probe)</div>", chart) == ["probe", "early", "late"]


@pytest.mark.parametrize("status", ["failed", "timeout", "unheard of"])
def test_a_bad_end_is_said_in_words_and_not_by_colour_alone(status: str) -> None:
    chart = timeline_chart([entry("cpu", 0, 1, status=status), entry("gpu", 0, 9)])
    assert f"1 s {status}</text>" in chart


def test_of_too_many_entries_the_longest_are_drawn() -> None:
    chart = timeline_chart([entry(f"p{n}", 0, n) for n in range(MOST_ROWS + 3)])
    assert len(BAR.findall(chart)) == MOST_ROWS
    assert "The 3 shortest entries" in chart


def test_a_name_cannot_leave_its_place() -> None:
    chart = timeline_chart([entry("</div><b>", 0, 1)])
    assert "&lt;/div&gt;&lt;b&gt;" in chart
    assert "</div><b>" not in chart
