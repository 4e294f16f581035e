"""Prometheus' text: of the families that are wanted the sums over all labels, whatever else is there."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.services.metrics import LIMIT_BYTES, sums

TEXT = b"""# HELP nv_inference_count Number of inferences
# TYPE nv_inference_count counter
nv_inference_count{model="a",version="1"} 3
nv_inference_count{model="b \\"}{ x",version="1"} 4.5 1700000000000
nv_gpu_power 1e2
nv_broken{model="x" 3
nv_nan NaN
nv_inf +Inf
go_threads 7
"""
names = st.text(alphabet="abc_:", min_size=1, max_size=6)
labels = st.dictionaries(names, st.text(max_size=8), max_size=3)
samples = st.lists(st.tuples(names, labels, st.integers(-1000, 1000)), max_size=20)


def quoted(value: str) -> str:
    """A label's value as the format writes it."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def test_a_family_is_summed_over_its_labels_and_others_are_left_out() -> None:
    wanted = ("nv_inference_count", "nv_gpu_power", "nv_nan", "nv_inf", "nv_broken", "no_such")
    assert sums(TEXT, wanted) == {"nv_inference_count": 7.5, "nv_gpu_power": 100.0}


def test_no_more_than_the_limit_is_read() -> None:
    assert sums(b"# " + b"x" * LIMIT_BYTES + b"\na 1\n", ("a",)) == {}


@given(samples)
def test_whatever_labels_hold_the_sum_is_that_of_the_values(found: list[tuple[str, dict[str, str], int]]) -> None:
    lines = [
        name
        + ("{" + ",".join(f'{key}="{quoted(text)}"' for key, text in own.items()) + "}" if own else "")
        + f" {value}"
        for name, own, value in found
    ]
    expected: dict[str, float] = {}
    for name, _, value in found:
        expected[name] = expected.get(name, 0.0) + value
    assert sums("\n".join(lines).encode(), expected) == expected


@given(st.binary(max_size=200) | st.text(alphabet='a{}"\\ \n=,1.eNI#', max_size=80).map(str.encode))
def test_any_bytes_give_finite_numbers_or_nothing(content: bytes) -> None:
    assert all(name == "a" and math.isfinite(value) for name, value in sums(content, ("a",)).items())
