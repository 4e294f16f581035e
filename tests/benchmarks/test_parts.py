"""The parts of a suite's score: those that are scores, bounded in number and depth."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.benchmarks.parts import MOST_PARTS, parts_of

HEPSCORE = {
    "atlas-gen_sherpa-ma-bmk": {"gen": 1.25},
    "cms-gen-sim-run3-ma-bmk": {"gen-sim": 0.75, "status": "success"},
    "alice-digi-reco-core-run3-ma-bmk": 0.5,
}


def test_the_workloads_of_hepscore_are_found_whether_they_have_parts_or_not() -> None:
    assert parts_of(HEPSCORE) == {
        "atlas-gen_sherpa-ma-bmk_gen": 1.25,
        "cms-gen-sim-run3-ma-bmk_gen-sim": 0.75,
        "alice-digi-reco-core-run3-ma-bmk": 0.5,
    }


@pytest.mark.parametrize("value", [True, "1.5", None, -1, float("nan"), float("inf"), [1.0], {}])
def test_what_is_no_score_is_left_out(value: Any) -> None:
    assert parts_of({"a": value, "b": 2}) == {"b": 2.0}


@pytest.mark.parametrize("found", [None, 1.5, "a", [1], {}])
def test_what_is_no_mapping_has_no_parts(found: Any) -> None:
    assert parts_of(found) == {}


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=200), inner, max_size=12),
    max_leaves=60,
)


@given(_JSON)
def test_whatever_it_is_given_the_parts_are_few_finite_numbers(found: Any) -> None:
    parts = parts_of(found)
    assert len(parts) <= MOST_PARTS
    assert all(math.isfinite(number) and number >= 0 for number in parts.values())
    assert all(0 < len(name) <= 100 for name in parts)
