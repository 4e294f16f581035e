"""An expression of a layer cannot reach beyond the place that it is put into."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.config import Layer, load_config
from pilot_agent.config_expressions import expression_problem
from pilot_agent.model import PilotError


@pytest.mark.parametrize(
    "text",
    [
        "True",
        'TARGET.Owner == "a)b"',
        '"http://x" == TARGET.Url',
        'regexp("^a\\"(b", TARGET.X)',
        "[a = 1; b = 2].a > 0",
        "member(TARGET.X, {1, 2})",
        "'odd ) name' =?= 3",
        "a / b * c",
        "$(X) == 1",
    ],
)
def test_what_is_one_expression_passes(text: str) -> None:
    assert expression_problem(text) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("True) || (True", "closes ) at character 5, which it did not open"),
        ("(a", "opens ( and does not close it"),
        ("{a)", "closes ) at character 3"),
        ("True // ", "has a comment at character 6"),
        ("True /*", "has a comment"),
        ('"open', "has a quote at character 1 that is not closed"),
        ('"open\\"', "has a quote at character 1 that is not closed"),
        ("'open", "has a quote"),
        ("True\nDAEMON_LIST = X", "has a line end"),
        ("True\rX", "has a line end"),
        ("True\x00", "has the control character 0x0"),
        ("True \\", "ends with a backslash"),
        ("True \\ ", "ends with a backslash"),
        ("a; b", "has a semicolon at character 2"),
        ("(" * 100, "nested more than 64 levels"),
        ("1 + " * 4000 + "1", "longer than 8192 characters"),
    ],
)
def test_what_would_change_what_is_around_it_is_refused(text: str, problem: str) -> None:
    assert problem in (expression_problem(text) or "")


@given(st.text(st.sampled_from("()[]{}\"'\\/*;a1 &|"), max_size=24))
def test_what_passes_leaves_the_parentheses_around_it_alone(text: str) -> None:
    """Read as HTCondor does: what is not in quotes opens and closes in pairs and never falls below where it began."""
    if expression_problem(text) is not None:
        return
    assert expression_problem(f"({text}) && (True)") is None
    depth, quote, place = 0, "", 0
    while place < len(text):
        character = text[place]
        if quote:
            if character == "\\" and text[place + 1 : place + 2] == quote:
                place += 1
            elif character == quote:
                quote = ""
        elif character in "\"'":
            quote = character
        else:
            depth += (character in "([{") - (character in ")]}")
        assert depth >= 0
        place += 1
    assert (depth, quote) == (0, "")


@pytest.mark.parametrize("key", ["start", "rank", "preempt"])
def test_the_configuration_names_key_and_layer(key: str) -> None:
    with pytest.raises(PilotError) as caught:
        load_config([Layer("site", {"startd": {key: "True) || (True"}})])
    assert f"startd.{key} (site): closes ) at character 5" in caught.value.failure.message


def test_those_of_all_layers_are_kept_each_with_its_layer() -> None:
    layers = [Layer("site", {"startd": {"start": "A"}}), Layer("vo", {"startd": {"start": "B"}})]
    assert load_config(layers).get("startd.start") == [
        {"layer": "vo", "value": "B"},
        {"layer": "site", "value": "A"},
    ]
