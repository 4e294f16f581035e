"""The start of condor_master: journalled before it is made, and told to the keeper by its plan."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pilot_agent.lifecycle.journal import Journal, read_journal
from pilot_agent.lifecycle.master import graceful_seconds, start_master
from pilot_agent.lifecycle.plan import MasterPlan, TimePlan


def plan(directory: Path, *argv: str) -> MasterPlan:
    return MasterPlan(argv=argv, environment={}, directory=str(directory), log=str(directory / "log"))


def test_the_plan_says_which_process_it_became_and_so_does_the_journal(tmp_path: Path) -> None:
    made = plan(tmp_path, "/bin/sleep", "600")
    start_master(made, TimePlan(vacate_seconds=4), Journal(str(tmp_path / "journal")))
    try:
        (entry,) = read_journal(str(tmp_path / "journal")).processes
        assert entry.identity is not None
        assert (entry.identity.pid, entry.number, entry.stop_seconds) == (made.pid, made.entry, 4)
        assert os.getsid(made.pid) == made.pid
    finally:
        os.kill(made.pid, signal.SIGKILL)
        os.waitpid(made.pid, 0)


def test_one_that_cannot_be_started_was_journalled_before(tmp_path: Path) -> None:
    made = plan(tmp_path, "/nonexistent/condor_master", "-f")
    with pytest.raises(FileNotFoundError):
        start_master(made, TimePlan(), Journal(str(tmp_path / "journal")))
    (entry,) = read_journal(str(tmp_path / "journal")).processes
    assert (entry.label, entry.identity, made.pid) == ("condor_master", None, 0)


@pytest.mark.parametrize(("vacate", "budget", "graceful"), [(10, 25, 10), (60, 25, 17), (10, 5, 0)])
def test_jobs_get_what_the_budget_leaves(vacate: float, budget: float, graceful: float) -> None:
    assert graceful_seconds(TimePlan(vacate_seconds=vacate, budget_seconds=budget)) == graceful
