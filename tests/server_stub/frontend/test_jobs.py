"""Ads of jobs become records and columns, whatever their owners wrote into them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server_stub.frontend.bindings import classad2
from server_stub.frontend.jobs import Demand, JobReader, JobRecord, job_lengths, job_table
from tests.server_stub.frontend.builders import NOW, record

AD = {
    "RequestCpus": 4,
    "RequestMemory": 8000,
    "RequestDisk": 1025,
    "RequestGPUs": 1,
    "QDate": NOW - 50,
    "MaxWallTimeMins": 90,
    "SingularityImage": "/cvmfs/images.example.org/el9",
    "Requirements": 'TARGET.Arch == "X86_64"',
    "AccountingGroup": "prod",
}
READER = JobReader(("AccountingGroup", "Nothing"), job_lengths())


def test_a_record_has_what_the_job_demands() -> None:
    wanted = JobRecord(NOW - 50, 4, 8000, 2, 1, 5400, True, 'TARGET.Arch == "X86_64"', ("prod", None))
    assert READER.record(AD) == wanted
    text = dict(AD, Requirements=classad2().ExprTree(str(AD["Requirements"])))
    assert READER.record(classad2().ClassAd(text))._replace(requirements="") == wanted._replace(requirements="")


def test_a_jobs_own_expressions_are_evaluated() -> None:
    ad = classad2().ClassAd("[RequestMemory = ifThenElse(MemoryUsage =!= undefined, MemoryUsage, 500 * 2); QDate = 5]")
    assert READER.record(ad).memory_mib == 1000


def test_a_job_that_was_released_waits_since_then() -> None:
    assert READER.record({**AD, "EnteredCurrentStatus": NOW - 7}).since == NOW - 7


def test_everything_that_is_read_is_asked_for() -> None:
    names: set[str] = set()

    class Asked(dict[str, object]):
        def get(self, key: str, default: object = None, /) -> object:
            names.add(key)
            return default

    READER.record(Asked())
    assert names == set(READER.projection)


@given(st.dictionaries(st.sampled_from(READER.projection), st.one_of(st.text(), st.integers(), st.floats(), st.none())))
def test_no_value_of_a_job_breaks_reading(ad: dict[str, object]) -> None:
    table = job_table({"ap": [READER.record(ad)]})
    assert table.demands[0].cores >= 1
    assert min(table.demands[0][:5]) >= 0


@pytest.mark.parametrize("value", [True, float("nan"), "4", [4], -3])
def test_what_is_no_number_counts_as_not_said(value: object) -> None:
    assert READER.record({"RequestCpus": value, "RequestMemory": value})[1:3] == (1, 0)


def test_a_text_that_is_too_long_is_not_kept() -> None:
    found = READER.record({"Requirements": "x" * 9000, "AccountingGroup": "y" * 9000})
    assert (found.requirements, found.attributes[0]) == ("", None)


def test_a_table_knows_each_demand_once() -> None:
    table = job_table({"a": [record(1), record(2), record(3, cores=2)], "b": [record(4)], "c": []})
    assert table.since.tolist() == [1, 2, 3, 4]
    assert table.demand.tolist() == [0, 0, 1, 0]
    assert table.access_point.tolist() == [0, 0, 0, 1]
    assert [type(demand) for demand in table.demands] == [Demand, Demand]
    assert table.access_points == ("a", "b", "c")


def test_no_job_is_a_table_too() -> None:
    assert len(job_table({})) == 0
