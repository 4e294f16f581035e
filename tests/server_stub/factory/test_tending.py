"""Jobs that do not get on: which are tried again, and when; which are removed, and why; which are forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server_stub.batch import BatchJob
from server_stub.factory.entry import Entry
from server_stub.factory.entry_tending import RECOVERABLE, Tending
from server_stub.factory.pilots import JobId, Pilot, PilotState
from server_stub.factory.tending import REMOVED_AT_ONCE, Care, Deed, act, decide
from tests.server_stub.conftest import ScriptedBatch
from tests.server_stub.factory.test_store import pilot

NOW = 10_000_000.0
JOB = JobId(7, 0)
ENTRY = Entry("site-a", "S", "pyz", walltime_seconds=3600)
PILOT = replace(pilot(), entry="site-a", state=PilotState.QUEUED, job=JOB, submitted=NOW - 50)


def told(state: PilotState, lasted_seconds: float, **more: Any) -> BatchJob:
    return BatchJob(state, since=NOW - lasted_seconds, **more)


def held(code: int, holds: int, lasted_seconds: float) -> BatchJob:
    return told(PilotState.HELD, lasted_seconds, hold_code=code, holds=holds, reason="why")


def care_for(job: BatchJob, tending: Tending | None = None, **changes: Any) -> tuple[Care, str] | None:
    entries = {"site-a": replace(ENTRY, tending=tending if tending is not None else Tending())}
    deeds = decide([replace(PILOT, **changes)], {JOB: job}, entries, NOW)
    assert len(deeds) <= 1
    return (deeds[0].care, deeds[0].reason) if deeds else None


@pytest.mark.parametrize(
    ("job", "care"),
    [
        (held(0, 1, 299), None),
        (held(0, 1, 300), Care.RELEASE),
        (held(0, 2, 599), None),
        (held(0, 2, 600), Care.RELEASE),
        (held(12, 5, 4799), None),
        (held(12, 5, 4800), Care.RELEASE),
        (held(12, 6, 1), Care.REMOVE),
        (held(34, 1, 1), Care.REMOVE),
        (held(1, 1, 100_000), None),
        (held(16, 1, 100_000), None),
        (held(1, 1, 172_801), Care.REMOVE),
        (told(PilotState.RUNNING, 3600 + 43_200), None),
        (told(PilotState.RUNNING, 3600 + 43_201), Care.REMOVE),
        (told(PilotState.QUEUED, 50), None),
        (told(PilotState.RUNNING, 3600, leaving=True), None),
        (told(PilotState.RUNNING, 3601, leaving=True), Care.FORGET),
        (BatchJob(PilotState.RUNNING), None),
    ],
)
def test_a_job_is_borne_with_until_it_is_not(job: BatchJob, care: Care | None) -> None:
    found = care_for(job)
    assert (found[0] if found else None) is care


def test_a_pilot_that_waits_for_long_is_removed_and_says_so() -> None:
    queued = told(PilotState.QUEUED, 10)
    assert care_for(queued, submitted=NOW - 604_800) is None
    care = care_for(queued, submitted=NOW - 604_801)
    assert care == (Care.REMOVE, "it waited in the queue for more than 604800 s")


def test_an_entry_decides_how_long_and_for_what() -> None:
    own = Tending(queued_seconds=60, running_seconds=60, release=(34,), releases=1, pause_seconds=10)
    assert care_for(held(34, 1, 10), own) == (Care.RELEASE, "held 1 times, tried again")
    assert care_for(held(34, 2, 10), own) == (Care.REMOVE, "it was held 2 times")
    assert care_for(held(0, 1, 10), own) == (Care.REMOVE, "it is held for a reason that stays (code 0)")
    assert care_for(told(PilotState.RUNNING, 61), own) == (Care.REMOVE, "it ran for more than 60 s")


def test_an_entry_that_is_gone_from_the_file_still_has_its_pilots_tended() -> None:
    assert decide([PILOT], {JOB: held(34, 1, 1)}, {}, NOW)[0].care is Care.REMOVE


def many(number: int) -> tuple[list[Pilot], Mapping[JobId, BatchJob]]:
    pilots = [replace(PILOT, id=f"p{index}", job=JobId(index, 0)) for index in range(number)]
    return pilots, {JobId(index, 0): held(34, 1, 1) for index in range(number)}


def test_of_very_many_only_so_many_are_removed_at_once_the_oldest_first() -> None:
    pilots, jobs = many(REMOVED_AT_ONCE + 50)
    deeds = decide(pilots, jobs, {"site-a": ENTRY}, NOW)
    assert [deed.pilot for deed in deeds] == [f"p{index}" for index in range(REMOVED_AT_ONCE)]


def test_all_of_a_kind_are_one_question_to_the_batch_system(batch: ScriptedBatch) -> None:
    asked: list[int] = []

    class Counting(ScriptedBatch):
        def remove(self, jobs: Any, reason: str) -> int:
            asked.append(len(jobs))
            return ScriptedBatch.remove(self, jobs, reason)

    counting = Counting()
    pilots, jobs = many(30)
    act([*decide(pilots, jobs, {}, NOW), Deed(Care.RELEASE, "p", JOB, "again"), Deed(Care.FORGET, "q", JOB, "gone")],
        counting)  # fmt: skip
    assert asked == [30]
    assert (counting.released, counting.forgotten) == ([JOB], {JOB: "gone"})


@given(st.sampled_from(RECOVERABLE), st.integers(1, 40), st.floats(0, 172_800))
def test_no_job_is_tried_more_often_than_it_may_and_pauses_only_grow(code: int, holds: int, lasted: float) -> None:
    found = care_for(held(code, holds, lasted))
    if holds > Tending().releases:
        assert found is not None
        assert found[0] is Care.REMOVE
    elif found is not None:
        assert found[0] is Care.RELEASE
        assert lasted >= 300 * 2 ** (holds - 1)
