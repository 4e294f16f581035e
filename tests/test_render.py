"""What people see fits the terminal and says what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.collect import Declared, PluginReport
from pilot_agent.hookspecs import Attribute, Probe
from pilot_agent.host import Loaded
from pilot_agent.model import CheckResult, CheckStatus, Fact, Failure, FailureKind, ImageCandidate
from pilot_agent.render import check_report, facts, plan_table, plugin_table, table, verdict
from tests.test_state import EMPTY, full

cells = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=60)


@given(st.lists(st.tuples(cells.map(lambda text: text[:8]), cells.map(lambda text: text[:8]), cells)))
def test_no_line_of_a_table_is_wider_than_the_terminal(rows: list[tuple[str, str, str]]) -> None:
    assert all(len(line) <= 80 for line in table(rows, width=80).splitlines())


def test_columns_stand_under_each_other_and_the_last_one_is_folded() -> None:
    rows = [("a", "one two three four five six seven"), ("bbb", "x")]
    assert table(rows, width=25) == "a    one two three four\n     five six seven\nbbb  x"


def test_nothing_is_an_empty_table() -> None:
    assert table([]) == ""


@pytest.mark.parametrize(
    ("fact", "shown"),
    [
        (Fact("a", 4, "cores"), "4 cores"),
        (Fact("a", True), "yes"),
        (Fact("a", []), "none"),
        (Fact("a", [{"name": "A100", "uuid": "x"}, {"path": "/scratch"}]), "A100, /scratch"),
        (Fact.unknown("a", "the probe timed out"), "unknown: the probe timed out"),
        (Fact.absent("a", "no GPU"), "absent: no GPU"),
    ],
)
def test_a_value_is_shown_as_people_say_it(fact: Fact, shown: str) -> None:
    assert shown in facts(replace(EMPTY, facts={"a": fact}))


def test_a_fit_node_is_called_fit() -> None:
    assert verdict(EMPTY) == "This node is fit."


def test_an_unfit_node_says_why_and_what_would_change_it() -> None:
    failure = Failure(FailureKind.NODE_RESOURCE, "disk.too_small", "3 MiB free, 64 needed", "free some; the site acts")
    text = verdict(replace(EMPTY, failures=(failure,)))
    assert "NOT fit: 3 MiB free, 64 needed (node_resource, disk.too_small)" in text
    assert "free some; the site acts" in text


def test_the_page_of_a_check_has_facts_checks_container_and_verdict() -> None:
    page = check_report(full())
    for part in ("wn1.example.org", "cpu.usable", "4 cores", "FAIL", "userns", "REQUIRED", "/images/el9", "NOT fit"):
        assert part in page


def test_hints_are_shown_for_what_did_not_pass_only() -> None:
    passed = CheckResult("a", CheckStatus.PASS, "fine", hint="never shown")
    warned = CheckResult("b", CheckStatus.WARN, "poor", hint="look here")
    page = check_report(replace(EMPTY, checks=(passed, warned)))
    assert "never shown" not in page
    assert "poor - look here" in page


def test_plugins_and_the_plan_are_listed() -> None:
    loaded = Loaded(
        (
            Declared("p", "pilot_probes", Probe(name="look", run="m:f"), builtin=False),
            Declared("p", "pilot_images", ImageCandidate("el9", "/x"), builtin=False),
            Declared("p", "pilot_attributes", Attribute(name="HasX"), builtin=False),
        ),
        (PluginReport("p", "/x/p.py", ("pilot_probes", "pilot_images"), 3),),
    )
    assert "/x/p.py" in plugin_table(loaded)
    plan = plan_table(loaded)
    assert [line.split()[:2] for line in plan.splitlines()] == [
        ["probes", "look"],
        ["images", "el9"],
        ["attributes", "HasX"],
    ]
