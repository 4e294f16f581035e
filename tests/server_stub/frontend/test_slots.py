"""Ads of slots become columns."""

from __future__ import annotations

import pytest

from server_stub.frontend.bindings import classad2
from server_stub.frontend.slots import PROJECTION, batch_job, read_slots, slot_record, slot_table
from tests.server_stub.frontend.builders import slot

AD = (
    '[PilotId = "p1"; GLIDEIN_Entry_Name = "site-a"; State = "Unclaimed"; SlotType = "Partitionable"; Cpus = 6;'
    "Memory = 9000; Disk = 2048000; GPUs = 1; GLIDEIN_ToRetire = 1800000500; Start = TARGET.X > 1; TotalCpus = 8]"
)


def test_a_record_has_what_is_left_of_a_slot() -> None:
    ad = classad2().ClassAd(AD)
    assert slot_record(ad) == ("site-a", "p1", False, True, 6, 9000, 2000, 1, 1800000500)
    assert slot_record({name: ad[name] for name in PROJECTION if name in ad}) == slot_record(ad)


@pytest.mark.parametrize(("start", "taking"), [("false", False), ("1 > 2 && TARGET.X", False), ("TARGET.X", True)])
def test_a_slot_whose_start_is_false_for_every_job_is_closed(start: str, taking: bool) -> None:
    ad = classad2().ClassAd(AD)
    ad["Start"] = classad2().ExprTree(start)
    assert slot_record(ad).open is taking


def test_a_claimed_slot_is_busy_and_a_partitionable_one_never() -> None:
    assert slot_record({"State": "Claimed", "SlotType": "Dynamic"}).busy
    assert slot_record({"State": "Claimed", "SlotType": "Static"}).busy
    assert not slot_record({"State": "Claimed", "SlotType": "Partitionable"}).busy


def test_a_slot_that_says_nothing_is_read_without_harm() -> None:
    table = read_slots([{}])
    assert not table.idle.any()
    assert table.of_entries(["a"]).tolist() == [-1]


def test_a_table_tells_idle_slots_and_busy_pilots() -> None:
    table = slot_table(
        [
            slot("a", "p1"),
            slot("a", "p1", busy=True),
            slot("b", "p2", cores=0),
            slot("b", "p2", open=False),
            slot("b", "p3"),
        ]
    )
    assert table.idle.tolist() == [True, False, False, False, True]
    assert table.of_entries(["b", "a"]).tolist() == [1, 1, 0, 0, 0]
    entry, busy = table.pilot_states()
    assert [table.entries[row] for row in entry] == ["a", "b", "b"]
    assert busy.tolist() == [True, False, False]


def test_an_empty_pool_is_a_table_too() -> None:
    table = slot_table([])
    assert len(table) == 0
    assert table.of_entries(["a"]).tolist() == []
    assert [len(part) for part in table.pilot_states()] == [0, 0]


def test_a_pilot_is_known_by_its_batch_job_where_its_ad_names_that() -> None:
    own = {"PilotId": "a", "GLIDEIN_Entry_Name": "e", "GLIDEIN_Factory": "f"}
    known = slot_record({**own, "GLIDEIN_ClusterId": 12, "GLIDEIN_ProcId": 0})
    assert (known.entry, batch_job(known.pilot)) == ("e@f", "12.0")
    assert batch_job(slot_record({**own, "GLIDEIN_ClusterId": 12}).pilot) == ""
    assert slot_record(own).pilot == "a"
