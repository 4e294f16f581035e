"""JSON from the compiled half of its module is the JSON of the public one."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent import light

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_text_is_the_same_as_the_public_module_writes(value: object) -> None:
    assert light.dumps(value) == json.dumps(value)
    assert light.dumps(value, indent=1) == json.dumps(value, indent=1)


@given(VALUES)
def test_what_was_written_is_read_back(value: object) -> None:
    assert light.loads(light.dumps(value)) == value
    assert light.loads(json.dumps(value, indent=2).encode()) == value


@pytest.mark.parametrize("text", ["", "{", "[1,]", '"a', "1 2", '{"a" 1}', "nothing", "[1}", "[" * 200_000])
def test_damaged_text_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        light.loads(text)


ALONE = """
import sys
sys.path.insert(0, sys.argv[1])
from pilot_agent.light import loads
assert "json" not in sys.modules
for text in sys.argv[2:]:
    try:
        loads(text)
    except ValueError as error:
        print(error)
"""


def test_damaged_text_is_a_value_error_in_a_process_that_has_not_loaded_the_public_module() -> None:
    """As the guardian and the keeper: a message that was torn must not end them."""
    texts = ["{", "[1", '"a', '{"a"']
    words = [sys.executable, "-I", "-B", "-c", ALONE, str(Path(__file__).parents[1]), *texts]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == len(texts)


def test_not_a_number_is_read_as_the_public_module_reads_it() -> None:
    assert math.isnan(light.loads("[NaN]")[0])
    assert light.loads("-Infinity") == -math.inf


def test_a_value_json_has_no_form_for_is_refused_or_given_to_default() -> None:
    with pytest.raises(TypeError, match="set"):
        light.dumps({1, 2})
    assert light.dumps({"a": {1}}, default=sorted) == '{"a": [1]}'


def test_signals_are_named() -> None:
    assert light.signal_name(15) == "SIGTERM"
    assert light.signal_name(63) == "signal 63"


@given(st.binary())
def test_a_digest_is_that_of_the_public_module(data: bytes) -> None:
    assert light.sha256_hex(data) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("text", [b"", b"[1]", b"7", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_an_empty_mapping(text: bytes) -> None:
    assert light.mapping(text) == {}


def test_an_object_is_the_mapping_that_it_is() -> None:
    assert light.mapping(b'{"a": [1]}') == {"a": [1]}
