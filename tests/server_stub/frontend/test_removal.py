"""What nobody needs is taken back step by step, and never what runs a job."""

from __future__ import annotations

import pytest

from server_stub.frontend.pressure import EntryState
from server_stub.frontend.removal import Patience, Removal, excess, removal

QUEUED = EntryState(queued=7, running=3, registered=3, busy=1, idle_slots=2, useless_slots=2)


@pytest.mark.parametrize(
    ("cycles", "taken"), [(0, Removal.NO), (5, Removal.NO), (6, Removal.WAIT), (10, Removal.WAIT), (11, Removal.IDLE)]
)
def test_each_step_waits_its_cycles(cycles: int, taken: Removal) -> None:
    assert removal(QUEUED, 2, cycles, Patience()) is taken


def test_whole_idle_pilots_go_after_the_queued_ones() -> None:
    assert removal(QUEUED, 7, 11, Patience()) is Removal.WHOLE
    assert removal(EntryState(queued=1), 1, 11, Patience()) is Removal.IDLE


def test_an_excess_is_more_than_asked_for_or_useless() -> None:
    assert excess(EntryState(queued=3), 2, Patience())
    assert not excess(EntryState(queued=3), 2, Patience(margin=1))
    assert excess(EntryState(queued=2, useless_slots=1), 2, Patience())
    assert not excess(EntryState(queued=2, idle_slots=4, running=9, registered=9), 2, Patience())
