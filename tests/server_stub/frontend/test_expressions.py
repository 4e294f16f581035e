"""Expressions over many pairs say the same as HTCondor does over each, and nothing else can be put into one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.model import PilotError
from server_stub.frontend.bindings import classad2
from server_stub.frontend.expressions import UNDEFINED, evaluate, parse_expression
from server_stub.frontend.jobs import Scalar

ENTRIES: list[dict[str, Scalar]] = [
    {"Country": "DE", "Cores": 8},
    {"Country": "US", "Cores": 64},
    {"Country": "DE", "Cores": 8, "Extra": 1},
]


def outcomes(text: str, job: dict[str, Scalar] | None = None) -> list[float]:
    return list(evaluate(parse_expression(text, "x"), ENTRIES, [job or {}])[:, 0])


def test_an_entry_is_my_and_a_job_target() -> None:
    assert outcomes("MY.Cores >= TARGET.RequestCpus", {"RequestCpus": 10}) == [0, 1, 0]
    assert outcomes("my.cores", {}) == [8, 64, 8]


def test_a_name_without_a_side_is_the_entrys_or_else_the_jobs() -> None:
    assert outcomes("Extra", {"Extra": 7}) == [7, 7, 1]
    assert outcomes("MY.Extra", {"Extra": 7}) == [UNDEFINED, UNDEFINED, 1]


def test_htcondors_own_functions_are_known() -> None:
    assert outcomes("stringListMember(Country, TARGET.Wanted)", {"Wanted": "US, FR"}) == [0, 1, 0]


def test_true_is_not_one_although_python_thinks_so() -> None:
    expression = parse_expression("TARGET.X =?= true", "x")
    assert evaluate(expression, [{}], [{"X": 1}, {"X": True}]).tolist() == [[0, 1]]


def test_what_is_undefined_or_makes_no_sense_is_told_apart() -> None:
    assert outcomes("TARGET.Nothing > 3") == [UNDEFINED] * 3
    assert all(math.isnan(value) for value in outcomes("Country + 1"))
    assert all(math.isnan(value) for value in outcomes('"word"'))


def test_each_combination_of_values_is_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []
    made = classad2().ClassAd.__setitem__

    def counting(ad: Any, name: str, value: object) -> None:
        counted.append(name)
        made(ad, name, value)

    monkeypatch.setattr(classad2().ClassAd, "__setitem__", counting)
    many = [{"Country": "DE" if n % 2 else "US", "Name": f"e{n}"} for n in range(1000)]
    found = evaluate(
        parse_expression('Country == "DE" && TARGET.Go', "x"), many, [{"Go": True, "Id": n} for n in range(50)]
    )
    assert found.shape == (1000, 50)
    assert np.array_equal(found[:, 0], np.arange(1000) % 2)
    assert counted == ["TARGET", "TARGET"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1; y = 2", "semicolon"),
        ("(1", "does not close"),
        ("1 +", "is no ClassAd expression"),
        ("", "is empty"),
        ('eval("Owner")', "calls eval()"),
        ("__import__('os').system('true') or", "is no ClassAd expression"),
    ],
)
def test_what_is_not_one_expression_is_refused(text: str, told: str) -> None:
    with pytest.raises(PilotError, match="policy") as caught:
        parse_expression(text, "policy.match")
    assert told in caught.value.failure.message


def test_the_word_eval_in_a_text_is_a_word() -> None:
    assert outcomes('"eval(x)" == "eval(x)"') == [1, 1, 1]


values = st.one_of(st.integers(-5, 5), st.booleans(), st.sampled_from(["a", "b", "A"]), st.none())
ads = st.lists(st.dictionaries(st.sampled_from(["A", "B", "C"]), values), min_size=1, max_size=5)
texts = st.sampled_from(
    ["MY.A == TARGET.B", "A =?= TARGET.A || MY.B =!= TARGET.C", "TARGET.C && MY.A < 3", "MY.C + TARGET.C"]
)


@given(texts, ads, ads)
def test_the_outcome_is_htcondors(text: str, ours: list[dict[str, Scalar]], theirs: list[dict[str, Scalar]]) -> None:
    def plain(ad: dict[str, Scalar]) -> Any:
        return classad2().ClassAd({name: value for name, value in ad.items() if value is not None})

    found = evaluate(parse_expression(text, "x"), ours, theirs)
    for row, own in enumerate(ours):
        for column, other in enumerate(theirs):
            value = classad2().ExprTree(text).eval(plain(own), plain(other))
            if isinstance(value, classad2().Value):
                assert bool(found[row, column] == UNDEFINED) is (value == classad2().Value.Undefined)
            else:
                assert found[row, column] == float(value)
