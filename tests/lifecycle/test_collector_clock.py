"""The collector's clock is read from what HTCondor prints of the pilot's own ad."""

from __future__ import annotations

from typing import Any

import pytest

from pilot_agent.lifecycle.collector_clock import add_to_report, read_offset


@pytest.mark.parametrize(
    ("said", "offset"),
    [
        (b"1700000005 1700000000\n", 5),
        (b"1700000000 1700000007\n1700000000 1700000000\n", -7),
        (b"", None),
        (b"1700000000\n", None),
        (b"undefined 1700000000\n", None),
        (b"1700000000 -5\n", None),
        (b"9" * 5000 + b" 1\n", None),
    ],
)
def test_the_offset_is_what_the_node_is_ahead(said: bytes, offset: int | None) -> None:
    assert read_offset(said) == offset


def test_the_fact_becomes_known_in_a_report_that_has_it() -> None:
    fact: dict[str, Any] = {"value": None, "unit": None, "status": "unknown", "source": "", "detail": "why"}
    report = {"node": {"clock": {"collector_offset_seconds": fact}}}
    add_to_report(report, -3)
    assert (fact["value"], fact["unit"], fact["status"], fact["detail"]) == (-3, "s", "known", "")


@pytest.mark.parametrize("report", [{}, {"node": {}}, {"node": {"clock": {"collector_offset_seconds": None}}}])
def test_a_report_without_it_stays_as_it_is(report: dict[str, Any]) -> None:
    before = repr(report)
    add_to_report(report, 1)
    assert repr(report) == before
