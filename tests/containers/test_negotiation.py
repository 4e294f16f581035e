"""The table of VO and site, cell by cell."""

from __future__ import annotations

import itertools

import pytest

from pilot_agent.config_kinds import CONTAINER_WISHES
from pilot_agent.containers.negotiation import SITE_WORDS, TABLE, WORDS, negotiate

CELLS = [
    ("DISABLE_GWMS", "NEVER", "DISABLE"),
    ("DISABLE_GWMS", "OPTIONAL", "DISABLE"),
    ("DISABLE_GWMS", "PREFERRED", "DISABLE"),
    ("DISABLE_GWMS", "REQUIRED", "DISABLE"),
    ("DISABLE_GWMS", "REQUIRED_GWMS", "FAIL"),
    ("NEVER", "NEVER", "NEVER"),
    ("NEVER", "OPTIONAL", "NEVER"),
    ("NEVER", "PREFERRED", "NEVER"),
    ("NEVER", "REQUIRED", "FAIL"),
    ("NEVER", "REQUIRED_GWMS", "FAIL"),
    ("OPTIONAL", "NEVER", "NEVER"),
    ("OPTIONAL", "OPTIONAL", "NEVER"),
    ("OPTIONAL", "PREFERRED", "PREFERRED"),
    ("OPTIONAL", "REQUIRED", "REQUIRED"),
    ("OPTIONAL", "REQUIRED_GWMS", "REQUIRED"),
    ("PREFERRED", "NEVER", "NEVER"),
    ("PREFERRED", "OPTIONAL", "PREFERRED"),
    ("PREFERRED", "PREFERRED", "PREFERRED"),
    ("PREFERRED", "REQUIRED", "REQUIRED"),
    ("PREFERRED", "REQUIRED_GWMS", "REQUIRED"),
    ("REQUIRED", "NEVER", "FAIL"),
    ("REQUIRED", "OPTIONAL", "REQUIRED"),
    ("REQUIRED", "PREFERRED", "REQUIRED"),
    ("REQUIRED", "REQUIRED", "REQUIRED"),
    ("REQUIRED", "REQUIRED_GWMS", "REQUIRED"),
]


@pytest.mark.parametrize(("vo", "site", "decision"), CELLS)
def test_each_cell_has_its_decision_in_any_case(vo: str, site: str, decision: str) -> None:
    for change in (str.upper, str.lower, str.title):
        outcome = negotiate(change(vo), change(site))
        assert outcome.decision == decision
        assert outcome.cell == f"{vo} x {site}"
        assert outcome.reason


def test_the_cells_above_are_the_whole_table() -> None:
    assert [(vo, site) for vo, site, _ in CELLS] == list(itertools.product(TABLE, SITE_WORDS))


@pytest.mark.parametrize(
    ("vo", "site", "word"),
    [
        ("REQUIRED_GWMS", "OPTIONAL", "REQUIRED_GWMS"),
        ("prefered", "optional", "prefered"),
        ("", "optional", "''"),
        ("preferred", "DISABLE_GWMS", "DISABLE_GWMS"),
        ("preferred", "yes", "yes"),
    ],
)
def test_a_word_that_the_table_does_not_have_fails_and_is_named(vo: str, site: str, word: str) -> None:
    outcome = negotiate(vo, site)
    assert outcome.decision == "FAIL"
    assert word in outcome.reason
    assert "PREFERRED" in outcome.reason


def test_the_configuration_takes_exactly_the_words_of_the_table() -> None:
    assert {word.upper() for word in CONTAINER_WISHES} == set(WORDS)
