"""What HTCondor says of a job, and what its programs' failures become."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilot_agent.model import PilotError
from server_stub.batch import BatchJob, HTCondor, parse_ad
from server_stub.factory.pilots import JobId, PilotState

QUEUED = {"ClusterId": 3, "ProcId": 1, "JobStatus": 1}


@pytest.mark.parametrize(
    ("ad", "job"),
    [
        ({}, BatchJob(PilotState.QUEUED)),
        ({"JobStatus": 2, "RemoteHost": "slot1@wn1.test"}, BatchJob(PilotState.RUNNING, "wn1.test")),
        (
            {"JobStatus": 4, "LastRemoteHost": "slot1@wn1", "ExitBySignal": False, "ExitCode": 64},
            BatchJob(PilotState.ENDED, "wn1", 64),
        ),
        ({"JobStatus": 4, "ExitBySignal": True, "ExitSignal": 9}, BatchJob(PilotState.ENDED, exit_code=137)),
        ({"JobStatus": 5, "HoldReason": "full"}, BatchJob(PilotState.HELD, reason="full")),
        ({"JobStatus": 3}, BatchJob(PilotState.REMOVED)),
    ],
)
def test_an_ad_is_read_as_a_job(ad: dict[str, object], job: BatchJob) -> None:
    assert parse_ad(QUEUED | ad) == (JobId(3, 1), job)


def programs(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let programs of HTCondor's names answer with ``script``."""
    for name in ("condor_submit", "condor_q", "condor_history", "condor_config_val"):
        path = directory / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


def test_a_missing_htcondor_is_a_failure_that_names_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PilotError, match=r"condor_q could not be started \(ENOENT\)"):
        HTCondor().queue("example")


def test_a_refusal_is_told_in_the_programs_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch, "echo 'ERROR: no such file' >&2; exit 1")
    with pytest.raises(PilotError, match="condor_submit exited 1: ERROR: no such file"):
        HTCondor().submit(str(tmp_path / "pilot.sub"))


def test_an_answer_that_is_no_list_of_jobs_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch, "echo '[{\"ClusterId\": 1}]'")
    with pytest.raises(PilotError, match="no list of jobs"):
        HTCondor().queue("example")


def test_an_empty_queue_is_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch, "exit 0")
    assert HTCondor().queue("example") == {}
    assert HTCondor().ended(JobId(1, 0)) is None


def test_the_job_that_was_made_is_read_from_the_terse_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch, "echo '12.0 - 12.0'")
    assert HTCondor().submit(str(tmp_path / "pilot.sub")) == JobId(12, 0)


def test_a_job_that_leaves_but_is_still_in_the_queue_has_not_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(tmp_path, monkeypatch, 'echo \'[{"ClusterId": 1, "ProcId": 0, "JobStatus": 3}]\'')
    assert HTCondor().queue("example")[JobId(1, 0)].state is PilotState.RUNNING


@pytest.mark.parametrize(
    ("ad", "name"),
    [
        ('MyType = "Scheduler"\nName = "schedd@factory.test"\nMachine = "factory.test"\n', "schedd@factory.test"),
        ('ScheddName = "other"\n', ""),
        ('Name = "two words"\n', ""),
        ("", ""),
        (None, ""),
    ],
)
def test_the_schedd_is_named_by_the_ad_that_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ad: str | None, name: str
) -> None:
    if ad is not None:
        (tmp_path / "ad").write_text(ad)
    programs(tmp_path, monkeypatch, f"echo {tmp_path}/ad")
    assert HTCondor().schedd() == name


def test_an_access_point_that_does_not_work_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch, "echo 'Not defined: SCHEDD_DAEMON_AD_FILE' >&2; exit 1")
    assert HTCondor().schedd() == ""
