"""A job's image, as the pilot's own code picks it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.containers.selection import Offer, Wishes, choose

OFFER = Offer({"el9": "/images/el9", "el8": "docker://example.org/el8", "Debian": "/images/debian"}, "el9")


@pytest.mark.parametrize(
    ("wanted", "platform"),
    [
        (None, "el9"),
        ("", "el9"),
        ("el8", "el8"),
        ("el8,el9", "el8"),
        ("nosuch, el8 , el9", "el8"),
        ("DEBIAN", "Debian"),
        ("nosuch,any,el8", "el9"),
        ("default", "el9"),
        ("el", None),
        ("el9el8", None),
        (" ", None),
    ],
)
def test_the_first_platform_of_the_job_that_is_on_offer_is_taken(wanted: str | None, platform: str | None) -> None:
    assert choose(Wishes(required_os=wanted), OFFER).platform == platform


def test_an_image_that_the_job_names_comes_before_every_platform() -> None:
    both = Wishes(container_image="/x", singularity_image="/y", required_os="el8")
    assert choose(both, OFFER).image == "/y"
    assert choose(Wishes(container_image="/x", required_os="el8"), OFFER).image == "/x"


def test_an_unknown_platform_gets_nothing_and_the_reason_says_what_there_is() -> None:
    choice = choose(Wishes(required_os="el6"), OFFER)
    assert (choice.image, choice.platform) == (None, None)
    assert choice.reason == "REQUIRED_OS = 'el6' names no platform on offer (here: el9, el8, Debian)"


def test_without_a_default_a_job_must_name_its_platform() -> None:
    offer = Offer(OFFER.images, None)
    assert choose(Wishes(), offer).reason == "the job names no platform, and there is no default image"
    assert choose(Wishes(required_os="any"), offer).image is None
    assert choose(Wishes(required_os="el8"), offer).platform == "el8"


@given(st.text())
def test_whatever_a_job_asks_for_it_gets_an_image_on_offer_or_none(wanted: str) -> None:
    assert choose(Wishes(required_os=wanted), OFFER).image in (*OFFER.images.values(), None)
