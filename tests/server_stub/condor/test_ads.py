"""What HTCondor says of a job."""

from __future__ import annotations

import pytest

from server_stub.batch import BatchJob
from server_stub.condor.ads import ATTRIBUTES, parse_ad, site_number
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
        (
            {"JobStatus": 5, "HoldReason": "full", "HoldReasonCode": 12, "HoldReasonSubCode": 28, "NumHolds": 2},
            BatchJob(PilotState.HELD, reason="full", hold_code=12, hold_subcode=28, holds=2),
        ),
        ({"JobStatus": 1, "HoldReasonCode": 12}, BatchJob(PilotState.QUEUED)),
        ({"JobStatus": 3, "RemoveReason": "too old"}, BatchJob(PilotState.REMOVED, reason="too old")),
        (
            {
                "JobStatus": 1,
                "GridJobId": "batch slurm x slurm/1/77",
                "GridJobStatus": "IDLE",
                "EnteredCurrentStatus": 9,
            },
            BatchJob(PilotState.QUEUED, since=9.0, grid_job="slurm/1/77", grid_state="IDLE"),
        ),
        ({"GridResourceUnavailableTime": 5}, BatchJob(PilotState.QUEUED, silent_since=5.0)),
    ],
)
def test_an_ad_is_read_as_a_job(ad: dict[str, object], job: BatchJob) -> None:
    assert set(ad) <= set(ATTRIBUTES)
    assert parse_ad(QUEUED | ad) == (JobId(3, 1), job)


@pytest.mark.parametrize(
    ("told", "number"),
    [
        ("", ""),
        ("batch condor 10.77.0.3_9618_factory.site.test_4.0_1795338869", ""),
        ("batch condor 10.77.0.3_9618_factory.site.test_4.0_1795338869 condor/5//", "condor/5"),
        ("condor factory.site.test 10.77.0.3:9618 7.0", "7.0"),
        ("arc arc.example.org 9f3c", "9f3c"),
        ("ec2 https://ec2.example.org/ SSH_key_1", ""),
        ("ec2 https://ec2.example.org/ SSH_key_1 i-0a1b", "i-0a1b"),
    ],
)
def test_a_jobs_number_at_its_site_is_there_once_the_site_gave_it(told: str, number: str) -> None:
    assert site_number(told) == number


@pytest.mark.parametrize("odd", ["text", True, 1e300, 2**63, -(2**63), float("inf"), float("nan"), [1], {"a": 1}])
@pytest.mark.parametrize("name", sorted({*ATTRIBUTES} - {"ClusterId", "ProcId", "JobStatus"}))
def test_what_a_site_says_oddly_is_unknown_and_hides_no_other_job(name: str, odd: object) -> None:
    for status in (4, 5):
        number, job = parse_ad(QUEUED | {"JobStatus": status, "ExitBySignal": True, name: odd})
        numbers = (job.exit_code or 0, job.hold_code, job.hold_subcode, job.holds)
        assert number == JobId(3, 1)
        assert all(type(each) is int and abs(each) < 2**31 for each in numbers)
        assert all(0 <= each < 1e16 for each in (job.since, job.silent_since))
