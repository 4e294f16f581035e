"""The grammar of GLIDEIN_Resource_Slots is read as entries of today have it, and what is wrong in it is named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.config import Layer, load_config
from pilot_agent.config_slots import (
    KINDS,
    ResourceSlot,
    ResourceSlotsError,
    parse_resource_slots,
    resource_slots_text,
)
from pilot_agent.model import PilotError

names = st.from_regex(r"[b-z][a-z0-9_]{2,12}", fullmatch=True).filter(
    lambda name: not any(own.startswith(name) for own in ("cpus", "memory", "ram", "disk", "swap", "virtualmemory"))
)
numbers = st.integers(1, 1000)
disks: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.fixed_dictionaries({}),
    st.fixed_dictionaries({"disk_share": st.integers(1, 1000).map(lambda part: part / 1000)}),
    st.fixed_dictionaries({"disk_kib": st.integers(1, 10**9)}),
)


@st.composite
def resource_slots(draw: st.DrawFn) -> ResourceSlot:
    return ResourceSlot(
        draw(names.filter(lambda name: name != "gpus")),
        draw(numbers),
        draw(st.none() | numbers),
        draw(st.none() | st.sampled_from(KINDS)),
        **draw(disks),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        (" ; ", ()),
        ("GPUs", (ResourceSlot("GPUs", None),)),
        ("gpus,type=main", (ResourceSlot("GPUs", None, kind="main"),)),
        ("GPUs,2,,Static", (ResourceSlot("GPUs", 2, kind="static"),)),
        ("GPUs,0", (ResourceSlot("GPUs", 0),)),
        ("ioslot", (ResourceSlot("ioslot", 1),)),
        ("ioslot,2,disk=10%", (ResourceSlot("ioslot", 2, disk_share=0.1),)),
        ("ioslot,2,512,partitionable,20GB", (ResourceSlot("ioslot", 2, 512, "partitionable", None, 20 << 20),)),
        ("a1, number = 3 ;b1,type=extra", (ResourceSlot("a1", 3), ResourceSlot("b1", 1, kind="extra"))),
        ("x1,1,,,.5", (ResourceSlot("x1", 1, disk_share=0.5),)),
        ("x1,1,,,1/4", (ResourceSlot("x1", 1, disk_share=0.25),)),
        ("x1,1,,,100", (ResourceSlot("x1", 1, disk_kib=100),)),
    ],
)
def test_a_text_means_what_it_means_to_entries_of_today(text: str, expected: tuple[ResourceSlot, ...]) -> None:
    assert parse_resource_slots(text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (",2", "entry 1, ',2', has the name ''"),
        ("io slot", "has the name 'io slot'"),
        ("cpu,2", "HTCondor takes for a resource of its own"),
        ("Memory", "HTCondor takes for a resource of its own"),
        ("ioslot,two", "has the number 'two'; a whole number of units is needed"),
        ("ioslot,0", "has a number of 0"),
        ("ioslot,-1", "has the number '-1'"),
        ("ioslot,1,10%", "has the memory '10%'; a whole number of MiB is needed"),
        ("ioslot,1,,statik", "has the type 'statik'; did you mean static?"),
        ("ioslot,1,,mainextra", "known: main, extra, static, partitionable, staticextra"),
        ("ioslot,1,,,lots", "has the disk 'lots'; 10%, 1/4 or 20GB is needed"),
        ("ioslot,1,,,101%", "100% at most"),
        ("ioslot,1,,,0%", "more than nothing"),
        ("ioslot,1,,,1/0", "has the disk '1/0'"),
        ("ioslot,1,2,main,1%,more", "more than 5 parts"),
        ("ioslot,nmuber=2", "has no part 'nmuber'; did you mean number?"),
        ("ioslot,2,number=3", "gives its number twice"),
        ("ok;a1;A1", "names the resource a1 twice"),
        ("ok;bad slot", "entry 2, 'bad slot'"),
        (";".join(f"r{number}" for number in range(40)), "more than 32 resources"),
        ("r" * 5000, "longer than 4096 characters"),
    ],
)
def test_what_is_wrong_is_named_with_its_entry(text: str, problem: str) -> None:
    with pytest.raises(ResourceSlotsError) as caught:
        parse_resource_slots(text)
    assert problem in str(caught.value)


@given(st.lists(resource_slots(), max_size=5, unique_by=lambda slot: slot.name))
def test_what_is_written_is_read_again(slots: list[ResourceSlot]) -> None:
    found = parse_resource_slots(resource_slots_text(tuple(slots)))
    assert [slot.name for slot in found] == [slot.name for slot in slots]
    for one, other in zip(found, slots, strict=True):
        assert (one.number, one.memory_mib, one.kind, one.disk_kib) == (
            other.number,
            other.memory_mib,
            other.kind,
            other.disk_kib,
        )
        assert one.disk_share == pytest.approx(other.disk_share)


@given(st.text(max_size=60) | st.text(st.sampled_from("iogpus,;=%1.0/ \tGBKtype"), max_size=60))
def test_any_text_is_taken_or_refused(text: str) -> None:
    try:
        slots = parse_resource_slots(text)
    except ResourceSlotsError:
        return
    assert all(slot.number is None or slot.number >= 0 for slot in slots)


def test_the_configuration_names_key_and_layer() -> None:
    with pytest.raises(PilotError) as caught:
        load_config([Layer("entry", {"startd": {"resource_slots": "ioslot,two"}})])
    assert "startd.resource_slots (entry): entry 1, 'ioslot,two', has the number 'two'" in caught.value.failure.message
