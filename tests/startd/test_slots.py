"""However the node is divided, every slot has all its sizes and together they have no more than the node."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.config_slots import KINDS, ResourceSlot, parse_resource_slots
from pilot_agent.model import FailureKind, PilotError
from pilot_agent.startd.slots import (
    Layout,
    Sizes,
    SlotGroup,
    SlotWish,
    percent,
    plan_slots,
    slot_knobs,
    start_condition,
    usable_gpus,
)

NODE = Sizes(cores=8, memory_mib=16000, disk_mib=20000, gpus=0)


def groups(
    text: str = "",
    *,
    node: Sizes = NODE,
    layout: Layout = "partitionable",
    count: int | None = None,
    cores_each: int | None = None,
) -> list[SlotGroup]:
    return list(plan_slots(node, SlotWish(layout, count, cores_each, parse_resource_slots(text))))


def test_without_a_wish_one_slot_has_everything() -> None:
    (slot,) = groups()
    assert slot == SlotGroup(1, 8, 16000, "100%", partitionable=True)
    assert slot.text == "cpus=8, memory=16000, disk=100%, gpus=0"


def test_fixed_slots_are_one_for_each_core() -> None:
    (slot,) = groups(layout="fixed")
    assert (slot.count, slot.cores, slot.memory_mib, slot.partitionable) == (8, 1, 2000, False)
    assert slot.disk_percent == "12.499%"


def test_cores_that_cannot_be_shared_evenly_go_to_the_first_slots() -> None:
    big, small = groups(layout="fixed", count=3)
    assert [(slot.count, slot.cores, slot.memory_mib) for slot in (big, small)] == [(2, 3, 6000), (1, 2, 4000)]


def test_slots_of_a_given_size_leave_the_rest_of_the_cores_but_nothing_else() -> None:
    (slot,) = groups(layout="fixed", cores_each=3)
    assert (slot.count, slot.cores, slot.memory_mib) == (2, 3, 8000)


def test_gpus_are_shared_among_fixed_slots() -> None:
    found = groups(node=Sizes(4, 4000, 4000, 3), layout="fixed", count=2)
    assert [(slot.cores, slot.gpus) for slot in found] == [(2, 2), (2, 1)]


@pytest.mark.parametrize(
    ("count", "cores_each"), [(9, None), (None, 9), (100, None)], ids=["too many", "too large", "far too many"]
)
def test_fixed_slots_that_do_not_fit_are_the_factorys_matter(count: int | None, cores_each: int | None) -> None:
    with pytest.raises(PilotError, match="the pilot has 8 cores, 16000 MiB of memory") as caught:
        groups(layout="fixed", count=count, cores_each=cores_each)
    assert (caught.value.failure.kind, caught.value.failure.code) == (FailureKind.CONFIG, "slots.too_small")


def test_a_resource_of_the_main_slot_changes_nothing_else() -> None:
    (slot,) = groups("ioslot,2,type=main")
    assert slot.text == "cpus=8, memory=16000, disk=100%, gpus=0, ioslot=2"


def test_an_extra_resource_brings_cores() -> None:
    (slot,) = groups("ioslot,2,type=extra")
    assert (slot.cores, slot.resources) == (10, {"ioslot": 2})


def test_a_static_resource_has_a_slot_for_each_unit() -> None:
    main, io = groups("ioslot,2,600,static,disk=10%")
    assert (main.memory_mib, main.cores, main.disk_percent, main.resources) == (15400, 8, "89.999%", {"ioslot": 0})
    assert (io.count, io.cores, io.memory_mib, io.disk_percent) == (2, 1, 300, "4.999%")
    assert (io.resources, io.only_for, io.partitionable) == ({"ioslot": 1}, "ioslot", False)


def test_several_units_share_a_slot_that_is_divided() -> None:
    io = groups("ioslot,2")[1]
    assert (io.count, io.cores, io.memory_mib, io.partitionable, io.resources) == (1, 2, 256, True, {"ioslot": 2})


@pytest.mark.parametrize("text", ["ioslot,1", "ioslot,1,,partitionable", "ioslot,1,,staticextra"])
def test_one_unit_has_a_static_slot(text: str) -> None:
    io = groups(text)[1]
    assert (io.count, io.partitionable, io.memory_mib) == (1, False, 128)


def test_gpus_in_slots_of_their_own_are_not_in_the_main_one() -> None:
    node = Sizes(8, 16000, 20000, 2)
    main, gpu = groups("GPUs,,,static", node=node)
    assert (main.gpus, gpu.gpus, gpu.count, gpu.only_for, gpu.resources) == (0, 1, 2, "GPUs", {})
    (both,) = groups("GPUs,type=main", node=node)
    assert both.gpus == 2


@pytest.mark.parametrize("text", ["ioslot,1,16000", "ioslot,1,,,100%", "a1,1,,,60%;b1,1,,,60%"])
def test_resources_that_leave_nothing_are_refused(text: str) -> None:
    with pytest.raises(PilotError, match="leave no memory or no disk"):
        groups(text)


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        ("", None, 4),
        ("", 2, 2),
        ("", 0, 0),
        ("ioslot,2", None, 0),
        ("GPUs", None, 4),
        ("GPUs,3", None, 3),
        ("GPUs,9", None, 4),
        ("GPUs,0", None, 0),
        ("GPUs,3", 1, 1),
    ],
)
def test_gpus_are_those_that_are_there_and_wanted(text: str, most: int | None, expected: int) -> None:
    assert usable_gpus(SlotWish(resources=parse_resource_slots(text)), 4, most) == expected


def test_every_type_has_all_its_lines() -> None:
    knobs = slot_knobs(groups("ioslot,2,600,static,disk=10%"), 16000, 20000)
    assert knobs["NUM_CPUS"] == "10"
    assert (knobs["MEMORY"], knobs["DISK"], knobs["NUM_SLOTS"]) == ("16000", str(20000 * 1024), "3")
    assert knobs["MACHINE_RESOURCE_ioslot"] == "2"
    assert knobs["SLOT_TYPE_2"] == "cpus=1, memory=300, disk=4.999%, gpus=0, ioslot=1"
    assert (knobs["NUM_SLOTS_TYPE_1"], knobs["NUM_SLOTS_TYPE_2"]) == ("1", "2")
    assert (knobs["SLOT_TYPE_1_PARTITIONABLE"], knobs["SLOT_TYPE_2_PARTITIONABLE"]) == ("True", "False")


def test_more_types_than_htcondor_reads_by_itself_are_announced() -> None:
    many = groups(";".join(f"r{number}" for number in range(20)))
    assert slot_knobs(many, 16000, 20000)["MAX_SLOT_TYPES"] == "21"


def test_a_resources_slots_take_only_jobs_that_ask_for_it() -> None:
    assert start_condition(groups()) == ""
    condition = start_condition(groups("ioslot,2"))
    assert condition == (
        "((MY.SlotTypeID == 2 || MY.SlotTypeID == -2) =!= True || (TARGET.Requestioslot > 0) =?= True)"
    )


nodes = st.builds(Sizes, st.integers(1, 200), st.integers(1, 10**6), st.integers(1, 10**7), st.integers(0, 16))
resources = st.lists(
    st.builds(
        ResourceSlot,
        st.sampled_from(["GPUs", "ioslot", "license", "fpga"]),
        st.integers(1, 20),
        st.none() | st.integers(1, 4000),
        st.none() | st.sampled_from(KINDS),
        st.none() | st.floats(0.001, 1),
    ),
    max_size=4,
    unique_by=lambda slot: slot.name,
).map(tuple)
wishes = st.builds(
    SlotWish,
    st.sampled_from(["partitionable", "fixed"]),
    st.none() | st.integers(1, 64),
    st.none() | st.integers(1, 16),
    resources,
)


@given(nodes, wishes)
def test_the_slots_never_have_more_than_the_node(node: Sizes, wish: SlotWish) -> None:
    gpus = usable_gpus(wish, node.gpus, None)
    node = Sizes(node.cores, node.memory_mib, node.disk_mib, gpus)
    try:
        found = plan_slots(node, wish)
    except PilotError as error:
        assert error.failure.code == "slots.too_small"  # noqa: PT017 - the other half of the property
        return
    assert sum(slot.count * slot.memory_mib for slot in found) <= node.memory_mib
    assert sum(slot.count * slot.gpus for slot in found) <= gpus
    assert sum(slot.count * float(slot.disk_percent.rstrip("%")) for slot in found) <= 100 + 0.001 * sum(
        slot.count for slot in found if slot.disk_percent == "0.001%"
    )
    named = {slot.name: slot.number or 0 for slot in wish.resources if not slot.is_gpus}
    apart = sum(units for slot in wish.resources if slot.kind != "main" for units in [slot.number or 0])
    assert sum(slot.count * slot.cores for slot in found) <= node.cores + apart
    for name, units in named.items():
        assert sum(slot.count * slot.resources[name] for slot in found) == units
    assert all(slot.cores > 0 and set(slot.resources) == set(named) for slot in found)


@given(st.floats(0, 1))
def test_a_share_is_never_rounded_up(share: float) -> None:
    told = float(percent(share).rstrip("%")) / 100
    assert told <= max(share, 0.00001)
    assert told >= share - 0.0000201
