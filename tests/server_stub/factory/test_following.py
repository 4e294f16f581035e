"""A pilot follows its job through queue, site, holds and removal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server_stub.batch import BatchJob
from server_stub.factory.following import follow
from server_stub.factory.pilots import JobId, PilotState
from tests.server_stub.factory.test_store import pilot

JOB = JobId(7, 0)
QUEUED = replace(pilot(), state=PilotState.QUEUED, job=JOB, submitted=100.0)
HELD = BatchJob(PilotState.HELD, reason="Failed to start GAHP", hold_code=0, holds=1)


def test_a_job_that_its_site_has_taken_is_known_there_by_a_number() -> None:
    before = follow(QUEUED, BatchJob(PilotState.QUEUED), 110.0)
    assert before.grid_job == ""
    taken = follow(before, BatchJob(PilotState.QUEUED, grid_job="slurm/20260131/42"), 120.0)
    assert taken.grid_job == "slurm/20260131/42"
    # HTCondor drops it from the ad when the job is done.
    assert follow(taken, BatchJob(PilotState.ENDED, exit_code=0), 130.0).grid_job == taken.grid_job


@pytest.mark.parametrize(
    ("code", "kind"), [(0, "network"), (12, "network"), (34, "node_resource"), (26, "config"), (4, "credential")]
)
def test_a_held_pilot_says_what_holds_it_and_who_must_act(code: int, kind: str) -> None:
    held = follow(QUEUED, replace(HELD, hold_code=code), 110.0)
    assert (held.state, held.message) == (PilotState.HELD, "Failed to start GAHP")
    assert (held.failure_kind, held.failure_code) == (kind, "job.held")


def test_a_pilot_that_was_let_go_again_has_no_failure() -> None:
    again = follow(follow(QUEUED, HELD, 110.0), BatchJob(PilotState.RUNNING), 120.0)
    assert (again.state, again.message, again.failure_kind, again.failure_code) == (PilotState.RUNNING, "", "", "")


def test_a_pilot_whose_site_does_not_answer_says_since_when_until_it_does() -> None:
    silent = follow(QUEUED, BatchJob(PilotState.QUEUED, silent_since=1795340444.0), 110.0)
    assert silent.message == "its site does not answer since 2026-11-22 09:40 UTC"
    assert follow(silent, BatchJob(PilotState.QUEUED), 120.0).message == ""


def test_a_pilot_that_was_removed_while_held_failed_for_what_held_it() -> None:
    held = follow(QUEUED, HELD, 110.0)
    leaving = follow(held, BatchJob(PilotState.RUNNING, leaving=True), 120.0)
    assert leaving.state is PilotState.HELD
    removed = follow(leaving, BatchJob(PilotState.REMOVED, reason="it was held 6 times"), 130.0)
    assert (removed.state, removed.outcome, removed.message) == (PilotState.REMOVED, "failed", "Failed to start GAHP")
    assert (removed.failure_code, removed.ended) == ("job.held", 130.0)


def test_a_pilot_that_was_removed_otherwise_says_why() -> None:
    removed = follow(QUEUED, BatchJob(PilotState.REMOVED, reason="it waited too long"), 130.0)
    assert (removed.outcome, removed.failure_kind, removed.message) == ("", "", "it waited too long")


@pytest.mark.parametrize("text", ["\x1b[2Jgone", "\ud800", "x" * 100_000])
def test_what_a_site_calls_a_job_is_shown_in_one_short_line(text: str) -> None:
    told = follow(QUEUED, BatchJob(PilotState.HELD, reason=text, grid_job=text), 110.0)
    assert told.grid_job.isprintable()
    assert told.message.isprintable()
    assert max(len(told.grid_job), len(told.message)) < 10_000
