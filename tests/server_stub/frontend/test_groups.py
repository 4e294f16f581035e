"""Jobs come together that the same slots can take, and no others."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from server_stub.frontend.groups import Borders, alike, group_jobs
from server_stub.frontend.jobs import JobRecord, job_table
from tests.server_stub.frontend.builders import NOW, record


def test_jobs_of_almost_one_size_are_one_group_as_large_as_the_largest() -> None:
    jobs = job_table({"a": [record(memory_mib=2001), record(memory_mib=2040)], "b": [record(memory_mib=2010)]})
    (found,) = group_jobs(jobs, NOW, Borders())
    assert (found.idle, found.demand.memory_mib) == (3, 2040)


def test_a_border_between_two_jobs_keeps_them_apart() -> None:
    jobs = job_table({"a": [record(memory_mib=2001), record(memory_mib=2040)]})
    found = group_jobs(jobs, NOW, Borders(frozenset([2010])))
    assert sorted(group.demand.memory_mib for group in found) == [2001, 2040]


def test_what_is_not_a_size_is_compared_exactly() -> None:
    kinds: list[dict[str, Any]] = [
        {},
        {"cores": 2},
        {"gpus": 1},
        {"container": True},
        {"requirements": "x"},
        {"attributes": ("a",)},
    ]
    jobs = job_table({"a": [record(**kind) for kind in kinds]})
    assert len(group_jobs(jobs, NOW, Borders())) == len(kinds)


def test_old_jobs_are_counted_and_the_longest_wait_comes_first() -> None:
    jobs = job_table({"a": [record(NOW - 100), record(NOW - 601), record(NOW - 9000, cores=4)]})
    first, second = group_jobs(jobs, NOW, Borders(), old_seconds=600)
    assert (first.demand.cores, first.old, first.oldest_seconds) == (4, 1, 9000)
    assert (second.idle, second.old, second.oldest_seconds) == (2, 1, 601)


def test_jobs_of_a_closed_access_point_are_left_out() -> None:
    jobs = job_table({"a": [record()], "full": [record(), record(cores=2)]})
    (found,) = group_jobs(jobs, NOW, Borders(), closed=["full"])
    assert (found.idle, found.demand.cores) == (1, 1)


def test_no_job_is_no_group() -> None:
    assert group_jobs(job_table({}), NOW, Borders()) == []


sizes = st.integers(0, 1 << 40)
records = st.builds(
    record, st.integers(0, 2 * NOW), cores=st.integers(1, 300), memory_mib=sizes, walltime_seconds=sizes
)


@given(st.lists(records, max_size=40), st.frozensets(sizes, max_size=5))
def test_every_job_is_in_one_group_that_fits_where_the_job_fits(jobs: list[JobRecord], entries: frozenset[int]) -> None:
    found = group_jobs(job_table({"a": jobs}), NOW, Borders(memory_mib=entries))
    assert sum(group.idle for group in found) == len(jobs)
    fitting = [sum(group.idle for group in found if group.demand.memory_mib <= size) for size in sorted(entries)]
    assert fitting == [sum(job.memory_mib <= size for job in jobs) for size in sorted(entries)]


@given(st.lists(st.lists(st.sampled_from([0, 1, 5, 1 << 50, (1 << 53) - 1]), min_size=4, max_size=4), max_size=12))
def test_equal_rows_are_found_however_large_their_numbers_are(rows: list[list[int]]) -> None:
    first, number = alike(np.array(rows, np.int64).reshape(-1, 4))
    distinct = sorted({tuple(row) for row in rows})
    assert first.tolist() == [rows.index(list(row)) for row in distinct]
    assert number.tolist() == [distinct.index(tuple(row)) for row in rows]
