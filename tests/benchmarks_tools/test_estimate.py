"""The median's interval is the exact one, and pairs stay pairs."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.estimate import CONFIDENCE, differences, estimate, interval_rank, ratios

# David and Nagaraja; also the tables of the sign test.
KNOWN_RANKS = {6: 1, 8: 1, 9: 2, 10: 2, 12: 3, 15: 4, 20: 6, 25: 8, 40: 14, 100: 40}


def _confidence(count: int, rank: int) -> float:
    return 1 - 2 * sum(math.comb(count, below) for below in range(rank)) * math.ldexp(1.0, -count)


@pytest.mark.parametrize(("count", "rank"), KNOWN_RANKS.items())
def test_the_rank_is_that_of_the_published_tables(count: int, rank: int) -> None:
    assert interval_rank(count) == rank


@given(st.integers(min_value=6, max_value=300))
def test_the_interval_is_the_narrowest_with_enough_confidence(count: int) -> None:
    rank = interval_rank(count)
    assert _confidence(count, rank) >= CONFIDENCE
    assert _confidence(count, rank + 1) < CONFIDENCE


@pytest.mark.parametrize("count", [1, 2, 5])
def test_too_few_values_have_no_interval(count: int) -> None:
    with pytest.raises(ValueError, match="too few"):
        interval_rank(count)


def test_ten_values_give_the_second_and_the_ninth() -> None:
    values = [float(value) for value in range(1, 11)]
    random.Random(1).shuffle(values)
    found = estimate(values)
    assert (found.low, found.median, found.high) == (2.0, 5.5, 9.0)


def test_nine_rounds_are_no_figure() -> None:
    with pytest.raises(ValueError, match="at least 10"):
        estimate([1.0] * 9)


@given(st.lists(st.floats(min_value=-1e9, max_value=1e9), min_size=10, max_size=60))
def test_the_median_lies_in_its_interval_whatever_the_order(values: list[float]) -> None:
    found = estimate(values)
    assert found.low <= found.median <= found.high
    assert estimate(values[::-1]) == found


def test_one_wild_round_moves_nothing_much() -> None:
    calm = estimate([1.0] * 9 + [1.1])
    wild = estimate([1.0] * 9 + [1e6])
    assert wild == calm


def test_rounds_are_compared_one_by_one() -> None:
    assert ratios([2.0, 30.0], [1.0, 10.0]) == [2.0, 3.0]
    assert differences([2.0, 30.0], [1.0, 10.0]) == [1.0, 20.0]


def test_a_round_with_one_side_only_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])
