"""The start of condor_master: journalled before it is made, and told to the keeper by its plan."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from pilot_agent.lifecycle.journal import Journal, read_journal
from pilot_agent.lifecycle.loop import Loop
from pilot_agent.lifecycle.master import MASTER_LOG, STARTD_LOG, Master, graceful_seconds, start_master
from pilot_agent.lifecycle.plan import MasterPlan, TimePlan
from pilot_agent.lifecycle.signals import Alarm
from pilot_agent.model import FailureKind, PilotError
from pilot_agent.pipeline import _start_condor


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


def watched(made: MasterPlan, journal: Journal) -> list[int | None]:
    """How the master ended that the keeper begins to watch."""
    alarm = Alarm(None, sticky=False)
    ends: list[int | None] = []
    Master(made, journal, Loop(alarm), 0.0, ends.append).watch()
    alarm.close()
    return ends


def test_one_that_ended_before_it_was_watched_is_told_and_no_other_child_is_reaped(tmp_path: Path) -> None:
    """A service that died meanwhile is asked later how it ended."""
    journal = Journal(str(tmp_path / "journal"))
    made, other = plan(tmp_path, "/bin/sh", "-c", "exit 44"), plan(tmp_path, "/bin/sh", "-c", "exit 3")
    for each in (made, other):
        start_master(each, TimePlan(), journal)
        os.waitid(os.P_PID, each.pid, os.WEXITED | os.WNOWAIT)
    assert watched(made, journal) == [44]
    assert os.waitstatus_to_exitcode(os.waitpid(other.pid, os.WNOHANG)[1]) == 3


def test_logs_that_a_job_replaced_hold_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / MASTER_LOG)
    (tmp_path / STARTD_LOG).symlink_to("/dev/zero")
    alarm = Alarm(None, sticky=False)
    master = Master(plan(tmp_path, "/bin/true"), Journal(str(tmp_path / "journal")), Loop(alarm), 0.0, print)
    alarm.close()
    assert not master.startd_left()
    assert master.startd_was_idle()


@pytest.mark.parametrize(
    ("program", "journal", "code"),
    [("/bin/true", "/dev/full", "disk.full"), ("/nonexistent/condor_master", "journal", "condor.start")],
)
def test_a_failed_start_says_what_the_site_must_change(tmp_path: Path, program: str, journal: str, code: str) -> None:
    whole = SimpleNamespace(master=plan(tmp_path, program), time=TimePlan())
    with pytest.raises(PilotError) as raised:
        _start_condor(whole, Journal(str(tmp_path / journal)))  # type: ignore[arg-type]
    assert (raised.value.failure.code, raised.value.failure.kind) == (code, FailureKind.NODE_RESOURCE)


@pytest.mark.parametrize(("vacate", "budget", "graceful"), [(10, 25, 10), (60, 25, 17), (10, 5, 0)])
def test_jobs_get_what_the_budget_leaves(vacate: float, budget: float, graceful: float) -> None:
    assert graceful_seconds(TimePlan(vacate_seconds=vacate, budget_seconds=budget)) == graceful
