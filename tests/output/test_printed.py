"""A report on standard output comes out again as it went in, or with the reason why it cannot."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.lifecycle.final_report import empty_report
from pilot_agent.lifecycle.printed import PLAIN_LIMIT_BYTES, PRINT_LIMIT_BYTES, printed
from pilot_agent.output.printed import find_printed

SMALL = empty_report("4f3a", 1.7e9)
LARGE = {**empty_report("beef", 1.7e9), "ad": {f"A{number}": str(number**9) for number in range(3000)}}
TEXTS = st.dictionaries(st.text(), st.recursive(st.none() | st.text() | st.integers(), st.lists), max_size=5)


def reports(text: str) -> list[Any]:
    found = find_printed(text)
    assert not [one.problem for one in found if one.problem]
    return [one.report for one in found]


@pytest.mark.parametrize(("report", "encoding"), [(SMALL, "json"), (LARGE, "zlib base64")])
def test_a_report_comes_back_whole_out_of_a_batch_jobs_noise(report: dict[str, Any], encoding: str) -> None:
    text = printed(report)
    assert f": {encoding}, " in text.splitlines()[0]
    assert reports(f"prologue\n{text}=== epilogue ===\n") == [report]


@given(TEXTS)
def test_any_report_comes_back(ad: dict[str, Any]) -> None:
    report = {**SMALL, "ad": ad}
    assert reports(printed(report)) == [report]


def test_every_report_of_a_shared_output_is_found() -> None:
    assert reports(printed(SMALL) + "between\n" + printed(LARGE)) == [SMALL, LARGE]


def test_the_lines_of_pilots_that_srun_labelled_are_told_apart() -> None:
    first = [f"0: {line}" for line in printed(LARGE).splitlines()]
    second = [f"1: {line}" for line in printed({**LARGE, "pilot": {"id": "cafe"}}).splitlines()]
    mixed = [line for pair in zip(first, second, strict=False) for line in pair] + first[len(second) :]
    mixed += second[len(first) :]
    found = reports("\n".join(mixed))
    assert sorted(report["pilot"]["id"] for report in found) == ["beef", "cafe"]


@pytest.mark.parametrize("report", [SMALL, LARGE])
def test_output_that_was_cut_anywhere_is_never_half_a_report(report: dict[str, Any]) -> None:
    text = printed(report)
    first = text.index("\n") + 1
    for end in range(first, len(text) - 1, max(1, len(text) // 50)):
        (found,) = find_printed(text[:end])
        assert (found.report, found.name) == (None, report["pilot"]["id"])
        assert "cut off" in found.problem


def test_a_line_that_is_missing_or_was_written_between_is_noticed() -> None:
    lines = printed(LARGE).splitlines()
    for damaged in (lines[:5] + lines[6:], [*lines[:5], "slurmstepd: error", *lines[5:]], lines[:5] + lines[:]):
        assert [one for one in find_printed("\n".join(damaged)) if one.report is None]


def test_a_report_that_is_too_large_is_printed_without_its_largest_parts() -> None:
    noise = {f"f{number}": {"value": str(hash((number, "x")) ** 5)} for number in range(30000)}
    huge = {**SMALL, "node": {"group": noise}}
    text = printed(huge)
    assert len(text) <= PRINT_LIMIT_BYTES
    (found,) = reports(text)
    assert found == {**SMALL, "node": {}}


def test_a_pilots_strange_name_breaks_no_marker() -> None:
    report = {**SMALL, "pilot": {"id": "a ===\nb"}}
    assert reports(printed(report)) == [report]


def test_what_says_to_be_enormous_is_not_unpacked() -> None:
    text = printed(LARGE).replace(" bytes, ", "99999 bytes, ", 1)
    (found,) = find_printed(text)
    assert found.report is None


@given(st.text(), st.integers(0, 2 * PLAIN_LIMIT_BYTES))
def test_no_text_breaks_the_reader(noise: str, place: int) -> None:
    text = printed(LARGE)
    find_printed(text[:place] + noise + text[place:])
