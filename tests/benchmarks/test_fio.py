"""fio's output: what is read from it, and that nothing else is believed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.benchmarks.fio import FioError, Round, command, read_round


def document(**changed: Any) -> dict[str, Any]:
    """What fio 3.33 says, as far as it is read."""

    def section(name: str, direction: str) -> dict[str, Any]:
        figures = {"bw_bytes": 250_000_000, "iops": 9000.5, "clat_ns": {"percentile": {"99.000000": 460_800}}}
        return {"jobname": name, "error": 0, "read": {"bw_bytes": 0}, "write": {"bw_bytes": 0}} | {direction: figures}

    jobs = [section("write", "write"), section("read", "read"), section("randread", "read")]
    return {"fio version": "fio-3.33", "jobs": jobs} | changed


def test_rates_are_in_megabytes_and_times_in_microseconds() -> None:
    assert read_round(json.dumps(document()).encode()) == Round(250.0, 250.0, 9000.5, 460.8)


def test_a_warning_before_the_document_does_no_harm() -> None:
    said = b"fio: this platform does not support process shared mutexes\n" + json.dumps(document()).encode()
    assert read_round(said).write == 250.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"jobs": []}, "no job 'write'"),
        ({"jobs": None}, "no job 'write'"),
        ({"jobs": [{"jobname": "write", "error": 28}]}, "error 28"),
        (
            {"jobs": [{"jobname": "write", "error": 0}, *document()["jobs"][1:]]},
            "write.bw_bytes of its job 'write' is None",
        ),
    ],
)
def test_what_is_missing_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(FioError, match=said):
        read_round(json.dumps(document(**change)).encode())


@pytest.mark.parametrize("value", [True, -1, 0, "fast", None, [], float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(value: Any) -> None:
    told = document()
    told["jobs"][0]["write"]["bw_bytes"] = value
    with pytest.raises(FioError, match="a number above 0 is needed"):
        read_round(json.dumps(told).encode())


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_no_output_makes_it_fail_in_another_way(output: bytes) -> None:
    with pytest.raises(FioError):
        read_round(output)


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["jobs", "jobname", "error", "read", "write", "iops", "x"]), inner, max_size=4
        )
    ),
    max_leaves=20,
)


@given(_JSON, _JSON)
def test_no_document_makes_it_fail_in_another_way(first: Any, jobs: Any) -> None:
    for found in (first, {"jobs": jobs}, {"jobs": [first, jobs]}, document(jobs=[*document()["jobs"][:2], first])):
        with pytest.raises(FioError):
            read_round(json.dumps(found).encode())


def test_it_is_told_a_size_a_time_and_whether_to_go_past_the_cache() -> None:
    told = command("/usr/bin/fio", "/scratch/file", size_mib=64, direct=False, seconds=0.5)
    assert {"--size=64m", "--runtime=500ms", "--direct=0", "--filename=/scratch/file"} <= set(told)
