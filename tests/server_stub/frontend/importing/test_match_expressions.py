"""A match expression of Python and the ClassAd expression made of it are true for the same jobs and entries."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server_stub.frontend.expressions import evaluate, parse_expression
from server_stub.frontend.importing.match_expressions import Names, convert_match
from server_stub.frontend.importing.terms import NotConvertibleError

JOB = {"JobString": "string", "JobInt": "int", "JobReal": "real", "JobBool": "bool", "JobList": "string", "JobFree": ""}
ENTRY = {"Site": "string", "Cores": "int", "Speed": "real", "Open": "bool", "Sites": "string", "Free": "Expr"}
NAMES = Names(JOB, ENTRY, {"WANTED": "b", "MOST": 3})

WORDS = st.sampled_from(["a", "b", "B", "ab", "a.b", "", "1", "aa"])
ITEMS = st.lists(st.sampled_from(["a", "b", "B", "ab"]), min_size=1, max_size=3)
NUMBERS = st.integers(-3, 4)
REALS = st.sampled_from([-1.5, 0.0, 0.5, 2.0])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": WORDS, "int": NUMBERS, "real": REALS, "bool": st.booleans(),
    "list": ITEMS.map(",".join), "any": st.one_of(WORDS, NUMBERS, REALS, st.booleans()),
}  # fmt: skip


def kind_of(name: str, types: dict[str, str]) -> str:
    return "list" if name in ("JobList", "Sites") else types[name] if types[name] in VALUES else "any"


def ads(types: dict[str, str]) -> st.SearchStrategy[dict[str, Any]]:
    """Ads in which any attribute may be missing."""
    return st.fixed_dictionaries({}, optional={name: VALUES[kind_of(name, types)] for name in types})


def literal(value: object) -> str:
    return repr(value)


def sides(kind: str) -> st.SearchStrategy[str]:
    """Python that reads an attribute of a kind."""
    places = [("job", name) for name in JOB if kind_of(name, JOB) == kind]
    places += [("glidein['attrs']", name) for name in ENTRY if kind_of(name, ENTRY) == kind]
    default = VALUES[kind].map(literal)
    return st.sampled_from(places).flatmap(
        lambda place: st.one_of(
            st.just(f"{place[0]}['{place[1]}']"),
            st.just(f"{place[0]}.get('{place[1]}')"),
            default.map(lambda value: f"{place[0]}.get('{place[1]}', {value})"),
        )
    )


def values(kind: str) -> st.SearchStrategy[str]:
    found = [sides(kind), VALUES[kind].map(literal)]
    if kind == "string":
        found += [st.just("attr_dict['WANTED']"), sides("string").map(lambda one: f"({one} or 'b')"),
                  sides("string").map(lambda one: f"{one}.lower()"), sides("any")]  # fmt: skip
    if kind == "int":
        pairs = st.tuples(sides("int"), st.sampled_from("+-*/"), st.one_of(sides("int"), sides("real")))
        found += [pairs.map(lambda parts: f"({' '.join(parts)})"), sides("string").map(lambda one: f"len({one})"),
                  sides("string").map(lambda one: f"int({one})"), sides("any"), sides("bool"),
                  sides("int").map(lambda one: f"(2 if {one} else -{one})")]  # fmt: skip
    return st.one_of(found)


SIGNS = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])


def joined(*parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map(" ".join)


COMPARISONS = st.one_of(
    joined(values("string"), SIGNS, values("string")),
    joined(values("int"), SIGNS, values("int")),
    joined(values("int"), SIGNS, values("int"), SIGNS, values("int")),
    joined(values("bool"), st.sampled_from(["==", "!="]), values("bool")),
    joined(sides("any"), st.sampled_from(["==", "!="]), sides("any")),
    joined(sides("any"), st.sampled_from(["==", "!=", "is", "is not"]), st.just("None")),
    joined(values("string"), st.sampled_from(["in", "not in"]), st.just("('a', 'B', 'ab')")),
    joined(values("string"), st.sampled_from(["in", "not in"]), sides("string")),
    joined(st.sampled_from(["glidein['attrs']['Site']", "'b'", "attr_dict['WANTED']", "job['JobFree']"]),
           st.sampled_from(["in", "not in"]), sides("list").map(lambda one: f"{one}.split(',')")),
    st.sampled_from(["'JobInt' in job", "job.has_key('JobFree')", "'Open' not in glidein['attrs']"]),
    st.tuples(sides("string"), st.sampled_from(["startswith", "endswith"]), values("string")).map(
        lambda parts: f"{parts[0]}.{parts[1]}({parts[2]})"
    ),
    st.one_of(sides("any"), sides("string"), sides("int"), sides("bool")),
)  # fmt: skip

EXPRESSIONS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda parts: f"({' '.join(parts)})"),
        inner.map(lambda one: f"(not {one})"),
        st.tuples(inner, inner, inner).map(lambda parts: f"({parts[0]} if {parts[1]} else {parts[2]})"),
    ),
    max_leaves=5,
)


class Ad(dict[str, Any]):
    """A dictionary of GlideinWMS's own Python."""

    def has_key(self, name: str) -> bool:
        return name in self


def by_python(text: str, job: dict[str, Any], entry: dict[str, Any]) -> bool:
    """What GlideinWMS finds: an expression that fails matches nothing."""
    known = {"job": Ad(job), "glidein": {"attrs": Ad(entry)}, "attr_dict": dict(NAMES.constants)}
    try:
        return bool(eval(text, {"__builtins__": {"len": len, "int": int}}, known))
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
        return False


def by_classad(text: str, job: dict[str, Any], entry: dict[str, Any]) -> bool:
    return bool(evaluate(parse_expression(text, "x"), [entry], [job])[0, 0] > 0)


@settings(max_examples=400, deadline=None)
@given(EXPRESSIONS, st.lists(st.tuples(ads(JOB), ads(ENTRY)), min_size=3, max_size=6))
def test_both_are_true_for_the_same_ads(text: str, pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    try:
        made = convert_match(text, NAMES)
    except NotConvertibleError:
        return
    for job, entry in pairs:
        assert by_classad(made, job, entry) == by_python(text, job, entry), f"{text}\n{made}\n{job}\n{entry}"


@given(st.text(max_size=60))
def test_whatever_is_given_it_is_converted_or_refused(text: str) -> None:
    try:
        made = convert_match(text, NAMES)
    except NotConvertibleError:
        return
    parse_expression(made, "x")


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("True", "true"),
        ('glidein["attrs"]["Site"] == "CERN"', 'MY.Site =?= "CERN"'),
        ('job["JobInt"] <= glidein["attrs"]["Cores"]', "TARGET.JobInt <= MY.Cores"),
        (
            '(job["JobBool"] and glidein["attrs"]["Cores"] > 1)',
            "TARGET.JobBool && (MY.Cores > 1)",
        ),
        (
            'glidein["attrs"]["Site"] in job["JobList"].split(",")',
            'isString(MY.Site) && stringListMember(MY.Site, TARGET.JobList, ",")',
        ),
        ('job.get("JobInt", 1) == attr_dict["MOST"]', "((TARGET.JobInt ?: 1) == 3) =?= true"),
        ('not glidein["attrs"]["Open"]', "!isUndefined(MY.Open) && !MY.Open"),
    ],
)
def test_common_expressions_can_be_read(text: str, made: str) -> None:
    assert convert_match(text, NAMES) == made


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("__import__('os').system('true')", "character 1: the call of __import__"),
        ("(lambda: True)()", "the call of lambda"),
        ("[x for x in (1,)]", "ListComp has no counterpart"),
        ("job['JobInt'].__class__", "Attribute has no counterpart"),
        ("glidein['name'] == 'x'", "neither job, glidein['attrs'] nor attr_dict"),
        ("job[attr_dict['WANTED']] == 1", "where a name in quotes is needed"),
        ("attr_dict['Nothing'] == 1", "attr_dict has no 'Nothing'"),
        ("job['JobInt'] % 2 == 0", "the operator Mod"),
        ("job['a b'] == 1", "'a b' is no name of an attribute"),
        ("job['JobInt'] < 'x'", "compared by <, which always fails"),
        ("job['JobString'] == 'a' and", "it is no Python expression"),
        ("(" * 500 + "1" + ")" * 500, "it is no Python expression"),
        ("not " * 3000 + "True", "it is longer than"),
        ("1 + " * 1900 + "1", "nested too deeply"),
        ("job['JobFree'] + 1 > 2", "say its type in match_attrs"),
        ("'\\n' == job['JobString']", "control characters"),
        ("1e400 == job['JobReal']", "the number inf"),
    ],
)
def test_what_has_no_counterpart_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(NotConvertibleError) as caught:
        convert_match(text, NAMES)
    assert said in str(caught.value)
