"""DB12's arithmetic, and its copies as real processes; with far fewer draws than a score needs."""

from __future__ import annotations

import os
import random
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilot_db12 import measure as module
from pilot_db12.measure import DRAWS, NORM, Copies, DrawsError, Timing, measure, measure_copies, work

PROCESSORS = sorted(os.sched_getaffinity(0))


def test_the_work_is_what_was_published() -> None:
    assert (DRAWS, NORM, module.MEAN, module.DEVIATION) == (12_500_000, 250.0, 10, 1)


def test_the_norm_is_250_for_each_iteration_and_cpu_second() -> None:
    assert Timing(cpu_seconds=20.0, wall_seconds=21.0, norms=(25.0, 25.0)).norm == 25.0


def test_each_counted_iteration_has_a_norm_of_its_own() -> None:
    found = measure(3, draws=2000)
    assert len(found.norms) == 3
    assert found.cpu_seconds > 0
    assert min(found.norms) <= found.norm * (1 + 1e-9)


@pytest.mark.parametrize(("iterations", "draws"), [(0, 10), (-1, 10), (1, 0)])
def test_nothing_cannot_be_measured(iterations: int, draws: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        measure(iterations, draws)


@given(st.integers(min_value=1, max_value=400))
def test_the_mean_of_the_draws_is_near_where_it_belongs(draws: int) -> None:
    assert abs(work(draws)) < module.BELIEVED_DEVIATIONS


@pytest.mark.parametrize("drawn", [11.0, float("nan"), float("inf")])
def test_a_processor_that_draws_wrong_numbers_has_no_score(monkeypatch: pytest.MonkeyPatch, drawn: float) -> None:
    monkeypatch.setattr(random, "normalvariate", lambda mean, deviation: drawn)
    with pytest.raises(DrawsError, match="miscalculates"):
        measure(1, draws=1000)


def test_copies_work_at_the_same_time_each_with_its_norm() -> None:
    found = measure_copies(PROCESSORS * 2, 1, draws=2000)
    assert len(found.norms) == 2 * len(PROCESSORS)
    assert all(norm > 0 for norm in found.norms)


def test_copies_have_a_sum_a_mean_and_a_median() -> None:
    found = Copies((1.0, 2.0, 6.0))
    assert (found.total, found.mean, found.median) == (9.0, 3.0, 2.0)


def test_a_copy_that_dies_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "work", lambda draws: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(DrawsError, match="copy 1: it ended without an answer"):
        measure_copies(PROCESSORS, 1)


def test_a_copy_says_why_it_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "work", lambda draws: 99.0)
    with pytest.raises(DrawsError, match=r"copy 1: the mean of the draws is 99\.0 standard errors"):
        measure_copies(PROCESSORS, 1)
