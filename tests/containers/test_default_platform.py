"""The default platform: fixed, the dictionary's first, or drawn by the pilot's id."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.containers.default_platform import DefaultPlatform, draw
from pilot_agent.model import FailureKind, PilotError

PLATFORMS = ("el8", "el9", "el10")
pilot_ids = st.text("0123456789abcdef", min_size=12, max_size=12)


def test_without_a_wish_it_is_the_first_that_has_an_image() -> None:
    default = DefaultPlatform.of(None, PLATFORMS, "id")
    assert default.settle({"el10", "el9"}) == ("el9", "")
    assert default.settle(()) == (None, "")


def test_without_a_wish_a_platform_called_default_comes_before_the_first() -> None:
    default = DefaultPlatform.of(None, ("rhel7", "default", "rhel8"), "id")
    assert default.settle({"rhel7", "default"}) == ("default", "")
    assert default.settle({"rhel7", "rhel8"}) == ("rhel7", "")


@pytest.mark.parametrize("configured", ["el9", "100% el9", {"el9": 3}, "50% el9, 50% el9"])
def test_one_platform_is_no_draw(configured: str | dict[str, float]) -> None:
    default = DefaultPlatform.of(configured, PLATFORMS, "id")
    assert default.settle({"el8", "el9"}) == ("el9", "")
    assert default.settle({"el8"}) == (
        None,
        "the default platform el9 has no image here, so jobs must name another",
    )


@pytest.mark.parametrize("configured", ["el99", "75% el9, 25% el99", {"el9": 1, "el99": 2}])
def test_a_platform_that_the_dictionary_does_not_have_is_a_mistake(configured: str | dict[str, float]) -> None:
    with pytest.raises(PilotError, match="'el99'") as caught:
        DefaultPlatform.of(configured, PLATFORMS, "id")
    failure = caught.value.failure
    assert (failure.kind, failure.code) == (FailureKind.CONFIG, "image.not_in_dictionary")
    assert "did you mean el9?" in failure.message


def test_the_draw_is_the_same_in_every_release() -> None:
    weighted = {"el9": 75.0, "el8": 25.0}
    drawn = [draw(weighted, f"{number:012x}")[0] for number in range(12)]
    assert drawn == ["el9", "el9", "el9", "el9", "el9", "el9", "el9", "el8", "el9", "el9", "el8", "el9"]


@given(pilot_ids)
def test_the_draw_of_a_pilot_is_reproducible_and_does_not_depend_on_the_order_of_words(pilot_id: str) -> None:
    assert draw({"el9": 75, "el8": 25}, pilot_id) == draw({"el8": 1, "el9": 3}, pilot_id)
    assert sorted(draw({"el9": 75, "el8": 25, "el7": 1}, pilot_id)) == ["el7", "el8", "el9"]


@given(pilot_ids)
def test_a_platform_without_an_image_does_not_change_the_order_of_the_others(pilot_id: str) -> None:
    whole = draw({"el9": 60, "el8": 30, "el7": 10}, pilot_id)
    assert tuple(name for name in whole if name != "el8") == draw({"el9": 60, "el7": 10}, pilot_id)


def test_of_many_pilots_as_many_get_a_platform_as_its_weight_says() -> None:
    # The ids are fixed, so these numbers are too.
    drawn = Counter(draw({"el9": 75, "el8": 25}, str(number))[0] for number in range(4000))
    assert 0.73 < drawn["el9"] / 4000 < 0.77
    left = Counter(draw({"a": 50, "b": 30, "c": 20}, str(number)) for number in range(4000))
    second = sum(count for order, count in left.items() if order[0] == "a" and order[1] == "b")
    first = sum(count for order, count in left.items() if order[0] == "a")
    assert 0.57 < second / first < 0.63


def test_what_was_drawn_and_from_what_is_said() -> None:
    default = DefaultPlatform.of("75% el9, 25% el8", PLATFORMS, "a5c0ffee0000")
    first, second = default.order
    told, said = default.settle({"el9", "el8"})
    assert told == first
    assert said == f"the default platform {first} was drawn from 75% el9, 25% el8 by the pilot's id"
    told, said = default.settle({second, "el10"})
    assert told == second
    assert said.endswith(f"({first} came before it and has no image here)")
    told, said = default.settle({"el10"})
    assert told is None
    assert "no platform of containers.default (75% el9, 25% el8) has an image here" in said
