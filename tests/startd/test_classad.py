"""ClassAd literals and configuration values say exactly what was given, or refuse."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.startd.classad import (
    LiteralError,
    attribute_name,
    config_literal,
    config_text,
    environment_string,
    literal,
    printable,
)

WRITABLE = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.just("\t"))


def read_old_string(text: str) -> str:
    """What HTCondor's old-syntax reader makes of a literal: only a backslash before a quote is an escape."""
    wrapped = re.fullmatch(r'substr\((".*") *, 0, -1\)', text, re.DOTALL)
    if wrapped:
        return read_old_string(wrapped.group(1))[:-1]
    assert text.startswith('"')
    assert text.endswith('"')
    return text[1:-1].replace('\\"', '"')


def read_config_value(text: str) -> str:
    """What HTCondor makes of a configuration value in which DOLLAR is the only macro."""
    assert "\n" not in text
    assert text == text.strip()
    return text.replace("$(DOLLAR)", "$")


@given(WRITABLE)
def test_a_string_comes_back_as_it_was(text: str) -> None:
    assert read_old_string(literal(text)) == text


@given(WRITABLE)
def test_a_string_in_a_configuration_line_comes_back_as_it_was(text: str) -> None:
    assert read_old_string(read_config_value(config_literal(text))) == text


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**62), 2**62) | WRITABLE, st.lists, max_leaves=20))
def test_no_literal_opens_a_macro_or_breaks_the_line(value: object) -> None:
    text = config_literal(value)
    assert "$" not in text.replace("$(DOLLAR)", "")
    assert "\n" not in text


@pytest.mark.parametrize("text", ["a\nb", "\x00", "a\rb", "\x1b[31m", "\x7f", "\ud800"])
def test_what_old_syntax_cannot_carry_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(LiteralError, match="character 0x"):
        literal(text)
    assert literal(printable(text))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "undefined"),
        (True, "true"),
        (3, "3"),
        (2.5, "2.5"),
        (float("inf"), 'real("INF")'),
        ("a", '"a"'),
        ([1, "x"], '{ 1, "x" }'),
        ({"a": [True]}, "[ a = { true } ]"),
        ("end\\", 'substr("end\\ ", 0, -1)'),
    ],
)
def test_values_take_their_classad_form(value: object, expected: str) -> None:
    assert literal(value) == expected


@pytest.mark.parametrize("value", [2**63, {"a b": 1}, object(), {"true": 1}])
def test_values_without_a_classad_form_are_refused(value: object) -> None:
    with pytest.raises(LiteralError):
        literal(value)


def test_a_value_nested_too_deep_is_refused() -> None:
    value: object = 1
    for _ in range(100):
        value = [value]
    with pytest.raises(LiteralError, match="nested"):
        literal(value)


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a b", "TRUE", "error", "é", "a\n"])
def test_bad_attribute_names_are_refused(name: str) -> None:
    with pytest.raises(LiteralError):
        attribute_name(name)


@pytest.mark.parametrize("text", [" a", "a ", "a\\", "a\nb"])
def test_configuration_values_that_no_line_holds_are_refused(text: str) -> None:
    with pytest.raises(LiteralError):
        config_text(text)


def test_an_environment_keeps_quotes_and_dollars() -> None:
    text = environment_string({"A": "it's", "B": 'say "x"', "C": "$(HOME)"})
    assert text == "\"A='it''s' B='say \"\"x\"\"' C='$(DOLLAR)(HOME)'\""


@pytest.mark.parametrize("variables", [{"A B": ""}, {"A=": ""}, {"A": "x\ny"}, {"": "x"}])
def test_an_environment_that_cannot_be_carried_is_refused(variables: dict[str, str]) -> None:
    with pytest.raises(LiteralError):
        environment_string(variables)
