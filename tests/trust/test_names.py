"""An artifact's directory is its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.trust.names import directory_name

NAMES = st.lists(st.text("a-.", max_size=4), min_size=1, max_size=4).map(lambda parts: "/".join(parts) + ".zip")


def test_all_of_the_name_is_in_that_of_the_directory() -> None:
    assert directory_name("files/atlas/models-1.zip", ".zip") == "files--atlas--models-1"


@given(NAMES, NAMES)
def test_no_two_artifacts_have_one_directory(one: str, other: str) -> None:
    place = directory_name(one, ".zip")
    assert place is None or one == other or place != directory_name(other, ".zip")


@pytest.mark.parametrize(
    "name", ["files/atlas/x.tar", "files//x.zip", "files/../x.zip", "./x.zip", "files/x--y/z.zip", "files/x-/y.zip"]
)
def test_what_leads_elsewhere_or_could_be_anothers_is_no_name(name: str) -> None:
    assert directory_name(name, ".zip") is None
