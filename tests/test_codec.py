"""Records to JSON and back, and what is refused on the way."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.codec import CodecError, from_json, to_json
from pilot_agent.model import (
    CheckResult,
    CheckStatus,
    ContainerDecision,
    Fact,
    Failure,
    FailureKind,
    ImageCandidate,
    ImageVerdict,
    Json,
    Limit,
    Runtime,
)

names = st.text(min_size=1, max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
limits = st.builds(Limit, resource=names, number=numbers, unit=names, source=names)
facts = st.builds(Fact, name=names, value=plain, limits=st.lists(limits, max_size=3).map(tuple))
failures = st.builds(Failure, kind=st.sampled_from(FailureKind), code=names, message=names)
checks = st.builds(CheckResult, name=names, status=st.sampled_from(CheckStatus))
candidates = st.builds(ImageCandidate, platform=names, path=names, requires=st.dictionaries(names, plain, max_size=2))
verdicts = st.builds(ImageVerdict, platform=names, path=names, taken=st.booleans(), proven=st.booleans(), reason=names)
runtimes = st.builds(Runtime, path=names, version=names, mode=st.sampled_from(["userns", "setuid"]))
decisions = st.builds(
    ContainerDecision,
    decision=st.sampled_from(["DISABLE", "NEVER", "PREFERRED", "REQUIRED", "FAIL"]),
    runtime=st.none() | runtimes,
    verdicts=st.lists(verdicts, max_size=2).map(tuple),
)
RECORDS = {Limit: limits, Fact: facts, Failure: failures, CheckResult: checks}
RECORDS |= {ImageCandidate: candidates, ContainerDecision: decisions}


@given(st.sampled_from(list(RECORDS)).flatmap(lambda kind: st.tuples(st.just(kind), RECORDS[kind])))
def test_a_record_survives_the_way_through_text(case: tuple[type[Any], Any]) -> None:
    kind, record = case
    assert from_json(kind, json.loads(json.dumps(to_json(record)))) == record


@given(st.sampled_from(list(RECORDS)), plain)
def test_whatever_json_holds_becomes_a_record_or_a_codec_error(kind: type[Any], data: Json) -> None:
    record, refused = attempt(kind, data)
    assert isinstance(record, kind) if refused is None else refused.startswith(kind.__name__)


@given(st.sampled_from(["number", "unit", "source", "resource"]), plain)
def test_a_field_of_any_content_is_taken_or_named(name: str, value: Json) -> None:
    data = {"resource": "cpu.usable", "number": 4, "unit": "cores", "source": "affinity", name: value}
    _, refused = attempt(Limit, data)
    assert refused is None or refused.startswith(f"Limit.{name}: ")


def attempt(kind: type[Any], data: Json) -> tuple[Any, str | None]:
    """The record, or why there is none."""
    try:
        return from_json(kind, data), None
    except CodecError as error:
        return None, str(error)


def test_an_unknown_field_is_refused_with_its_path() -> None:
    limit = {"resource": "r", "number": 1, "unit": "u", "source": "s", "colour": "red"}
    with pytest.raises(CodecError, match=r"^Fact\.limits\[0\]\.colour: unknown field$"):
        from_json(Fact, {"name": "cpu.usable", "limits": [limit]})


def test_a_missing_field_is_refused_with_its_path() -> None:
    with pytest.raises(CodecError, match=r"^Fact\.limits\[0\]\.source: missing$"):
        from_json(Fact, {"name": "cpu.usable", "limits": [{"resource": "r", "number": 1, "unit": "u"}]})


def test_a_boolean_is_no_number() -> None:
    with pytest.raises(CodecError, match="expected float, found a boolean"):
        from_json(Limit, {"resource": "r", "number": True, "unit": "u", "source": "s"})


def test_an_integer_is_taken_where_a_number_is_needed() -> None:
    limit = from_json(Limit, {"resource": "r", "number": 4, "unit": "u", "source": "s"})
    assert limit.number == 4.0
    assert isinstance(limit.number, float)


def test_an_integer_that_no_float_holds_is_refused() -> None:
    with pytest.raises(CodecError, match=r"^Limit\.number: "):
        from_json(Limit, {"resource": "r", "number": 10**400, "unit": "u", "source": "s"})


def test_a_word_that_is_none_of_a_literal_is_refused_with_the_words_that_are() -> None:
    with pytest.raises(CodecError, match=r"^Fact\.where: 'moon' is none of 'node', 'inside'$"):
        from_json(Fact, {"name": "cpu.usable", "where": "moon"})


def test_an_unknown_member_of_an_enumeration_is_refused() -> None:
    with pytest.raises(CodecError, match=r"^Fact\.status: 'perhaps'"):
        from_json(Fact, {"name": "cpu.usable", "status": "perhaps"})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_does_not_have_is_refused(value: float) -> None:
    with pytest.raises(CodecError, match="cannot become JSON"):
        to_json(Fact("load", {"one": [value]}))


def test_a_value_json_cannot_carry_is_refused_by_its_type() -> None:
    with pytest.raises(CodecError, match="a bytes cannot become JSON"):
        to_json({"key": b"bytes"})


def test_sets_come_out_in_order_and_enumerations_as_their_values() -> None:
    assert to_json({"set": {"b", "a"}, "kind": FailureKind.NETWORK, 3: (1, 2)}) == {
        "set": ["a", "b"],
        "kind": "network",
        "3": [1, 2],
    }


@dataclass(frozen=True, slots=True)
class Nested:
    """A record with every kind of field at once."""

    optional: Limit | None
    mapping: dict[str, tuple[Limit, ...]] = field(default_factory=dict)
    listed: list[int] = field(default_factory=list)


def test_records_inside_mappings_inside_records_come_back() -> None:
    limit = Limit("memory.usable_mib", 2048, "MiB", "cgroup2")
    nested = Nested(limit, {"a": (limit, limit)}, [1, 2])
    assert from_json(Nested, json.loads(json.dumps(to_json(nested)))) == nested


def test_the_place_of_a_fault_deep_inside_is_named() -> None:
    with pytest.raises(CodecError, match=r"^plugin\.mapping\.a\[0\]: expected a mapping, found int$"):
        from_json(Nested, {"optional": None, "mapping": {"a": [3]}}, where="plugin")
