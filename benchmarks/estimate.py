"""Median and its confidence interval, without any assumption about how the values are distributed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
FEWEST_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median with the interval that holds the true one with at least 95 % confidence."""

    median: float
    low: float
    high: float


def estimate(values: Sequence[float]) -> Estimate:
    """The sample's median and an exact interval from its order statistics.

    The interval is [x(k), x(n+1-k)] with the largest k for which a binomial(n, 1/2) variable lies in k .. n-k with a
    probability of at least 0.95 (H. A. David and H. N. Nagaraja, Order Statistics, 3rd edition, section 7.1). For 10
    values that is the second and the ninth (confidence 0.979). Raises ValueError for fewer than 10 values.
    """
    if len(values) < FEWEST_ROUNDS:
        raise ValueError(f"{len(values)} rounds; a figure needs at least {FEWEST_ROUNDS}")
    ordered = sorted(values)
    rank = interval_rank(len(ordered))
    return Estimate(statistics.median(ordered), ordered[rank - 1], ordered[-rank])


def interval_rank(count: int) -> int:
    """The k of `estimate`: how many values from either end the interval's borders are, counted from 1."""
    outside = (1 - CONFIDENCE) / 2 * 2**count
    below = 0
    rank = 0
    while below + math.comb(count, rank) <= outside:
        below += math.comb(count, rank)
        rank += 1
    if rank == 0:
        raise ValueError(f"{count} values are too few for an interval of {CONFIDENCE:.0%}")
    return rank


def ratios(values: Sequence[float], peers: Sequence[float]) -> list[float]:
    """The ratio of each round. Both sides of a round must have been measured: raises ValueError otherwise."""
    return [value / peer for value, peer in zip(values, peers, strict=True)]


def differences(values: Sequence[float], peers: Sequence[float]) -> list[float]:
    """The difference of each round, like `ratios`."""
    return [value - peer for value, peer in zip(values, peers, strict=True)]
