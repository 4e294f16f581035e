"""What strangers send as JSON is read only if nobody who gets it later can break on it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server_stub.foreign import DEEPEST, read_foreign

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
DOCUMENTS = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(DOCUMENTS)
def test_what_json_knows_is_read_as_it_is(document: object) -> None:
    assert read_foreign(json.dumps(document).encode()) == document


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("around", ["{}", '[1, {{"a": [{}]}}]'])
def test_a_number_that_is_none_is_refused_wherever_it_stands(number: str, around: str) -> None:
    with pytest.raises(ValueError, match="number"):
        read_foreign(around.format(number))


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_what_is_nested_too_deeply_is_refused_at_any_depth(opening: str, closing: str) -> None:
    assert read_foreign(opening * DEEPEST + "1" + closing * DEEPEST) is not None
    for depth in (DEEPEST + 1, 500, 100_000):
        with pytest.raises(ValueError, match="nested"):
            read_foreign(opening * depth + "1" + closing * depth)


@pytest.mark.parametrize("text", ["", "{", "9" * 5000, b"\xff\xfe\xfd", "[1,]"])
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - Python's own words
        read_foreign(text)
