"""A factory's offers become records; what makes no sense costs one entry and never more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server_stub.frontend.offers import Outcomes
from server_stub.frontend.pressure import EntryState
from server_stub.frontend.wire import EntryLimits, WireError, read_offered
from tests.server_stub.frontend.factory_double import entry

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


def answer(*entries: Any) -> dict[str, Any]:
    return {"factory": "east", "entries": list(entries)}


def test_everything_that_decisions_need_is_read() -> None:
    seen = [{"at": 5, "facts": {"os.glibc": {"value": "2.34", "status": "known"}, "os.id": "debian"}}]
    told = read_offered(
        answer(
            entry(
                "a", vos=["x"], containers="required", seen=seen, closed="downtime: switches",
                state={"queued": 3, "running": 4, "held": 2, "oldest_queued_seconds": 9.5},
            )
        ),
        "east",
    )  # fmt: skip
    (offer,) = told.offers
    assert (offer.name, offer.containers, offer.downtime, offer.vos) == ("a@east", "REQUIRED", True, frozenset({"x"}))
    assert offer.outcomes == Outcomes(9, 1, 5, 0)
    assert offer.seen[0].facts["os.glibc"].value == "2.34"
    assert offer.ad()["GLIDEIN_Entry_Name"] == "a"
    assert offer.ad()["GLIDEIN_Factory"] == "east"
    assert offer.ad()["GLIDEIN_Country"] == "CH"
    assert told.states["a@east"] == EntryState(3, 4, 9.5)
    assert told.held == {"a@east": 2}
    assert told.limits == {"a@east": EntryLimits(100, 50)}
    assert told.closed == {"a@east": "downtime: switches"}


def test_where_the_batch_system_decides_the_newest_node_says_how_large_a_pilot_is() -> None:
    seen = [{"at": 5, "facts": {"cpu.usable": 16}}, {"at": 9, "facts": {"cpu.usable": {"value": 64}}}]
    told = read_offered(answer(entry("a", cores=None, memory_mib=None, walltime_seconds=None, seen=seen)), "east")
    assert (told.offers[0].cores, told.offers[0].memory_mib, told.offers[0].walltime_seconds) == (64, 2048, 86400)


@pytest.mark.parametrize(
    "wrong",
    [
        entry("no name"), entry("../x"), entry("a"), entry("b", cores=-1), entry("b", cores="8"), entry("b", seen=5),
        entry("b", state=[1]), entry("b", start_seconds=float("nan")), entry("b", memory_mib=True), 7, None,
    ],
)  # fmt: skip
def test_an_entry_that_makes_no_sense_is_left_out_and_named(wrong: Any) -> None:
    told = read_offered(answer(entry("a"), wrong), "east")
    assert [offer.name for offer in told.offers] == ["a@east"]
    assert list(told.left_out) == ["entries[1]"]


@given(JSON)
def test_no_answer_is_anything_but_understood_or_refused(document: Any) -> None:
    with pytest.raises(WireError):
        read_offered(document, "east")


@given(st.dictionaries(st.sampled_from(sorted(entry("a"))), JSON))
def test_whatever_stands_in_an_entry_no_other_suffers(changed: Any) -> None:
    told = read_offered(answer({**entry("b"), **changed}, entry("last-one")), "east")
    assert "last-one@east" in {offer.name for offer in told.offers}
    for offer in told.offers:
        assert offer.ad()
