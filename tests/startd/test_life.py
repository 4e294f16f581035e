"""Daemons end by themselves when nobody comes, when nobody comes any more, and when nobody looks after them."""

from __future__ import annotations

from pilot_agent.config_slots import parse_resource_slots
from pilot_agent.startd.life import life_knobs
from pilot_agent.startd.slots import SlotWish
from tests.startd.plans import plan


def test_without_a_tail_only_the_usual_patience_counts() -> None:
    found = life_knobs(plan())
    assert found["STARTD_NOCLAIM_SHUTDOWN"] == "1200"
    assert "STARTD.DAEMON_SHUTDOWN" not in found


def test_a_slot_that_is_divided_is_idle_since_its_last_part_went() -> None:
    found = life_knobs(plan(tail_shutdown_seconds=400))
    assert found["STARTD.DAEMON_SHUTDOWN"] == (
        "(MY.JobStarts > 0 && MY.PartitionableSlot =?= True && MY.NumDynamicSlots =?= 0 && "
        "time() - MY.NumDynamicSlotsTime > 400) =?= True"
    )
    assert "STARTD_SLOT_ATTRS" not in found


def test_of_several_slots_all_must_be_idle() -> None:
    wish = SlotWish("fixed", count=2, resources=parse_resource_slots("ioslot,2"))
    found = life_knobs(plan(tail_shutdown_seconds=400, wish=wish))
    shutdown = found["STARTD.DAEMON_SHUTDOWN"]
    for number in (1, 2):
        assert (
            f'MY.slot{number}_State =?= "Unclaimed" && time() - MY.slot{number}_EnteredCurrentState > 400' in shutdown
        )
    assert "MY.slot3_NumDynamicSlots =?= 0 && time() - MY.slot3_NumDynamicSlotsTime > 400" in shutdown
    assert "State" in found["STARTD_SLOT_ATTRS"]


def test_a_short_tail_makes_htcondor_look_often() -> None:
    assert life_knobs(plan(tail_shutdown_seconds=20))["UPDATE_INTERVAL"] == "5"
