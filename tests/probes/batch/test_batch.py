from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.model import FactStatus
from pilot_agent.probes.batch.batch import probe_batch
from tests.probes.trees import context_of, facts


@pytest.mark.parametrize(
    ("name", "system", "job"),
    [
        ("bare_metal_el9", "none", None),
        ("slurm_cgroup2", "slurm", "4242"),
        ("pbs_cgroup1", "pbs", "1001.head"),
        ("htcondor_slot", "htcondor", "812.3"),
        ("lsf_power9", "lsf", "88101[7]"),
        ("uge_gpu", "sge", "5150.3"),
        ("mjf_virtual_machine", "none", "vm-17.example.org"),
    ],
)
def test_the_batch_system_and_its_job_are_known(name: str, system: str, job: str | None) -> None:
    known = facts(probe_batch(context_of(name)))
    assert known["batch.system"].value == system
    assert known["batch.job_id"].value == job


def test_outside_a_batch_system_there_is_no_job() -> None:
    known = facts(probe_batch(Context()))
    told = {name for name, fact in known.items() if fact.status is not FactStatus.ABSENT}
    assert told == {"batch.system"}


def test_what_a_system_does_not_say_is_unknown_with_its_name() -> None:
    account = facts(probe_batch(context_of("pbs_cgroup1")))["batch.account"]
    assert (account.status, account.detail) == (FactStatus.UNKNOWN, "pbs did not say the job's account")


def test_every_end_that_was_told_is_kept() -> None:
    end = facts(probe_batch(context_of("mjf_virtual_machine")))["batch.end_time"]
    told = {limit.source: limit.number for limit in end.limits}
    assert told == {
        "MACHINEFEATURES shutdowntime": 1795600000,
        "JOBFEATURES jobstart_secs + JOBFEATURES wall_limit_secs": 1795513600 + 90000,
    }
    assert end.value == min(told.values())


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "soon"}, "SLURM_JOB_END_TIME is 'soon', which is no number"),
        ({"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "-5"}, "SLURM_JOB_END_TIME is '-5'"),
        ({"PBS_JOBID": "7", "PBS_WALLTIME": "1h"}, "PBS_WALLTIME is '1h'"),
    ],
)
def test_an_end_that_cannot_be_read_is_told(variables: dict[str, str], said: str) -> None:
    end = facts(probe_batch(Context(environment=variables | {"PATH": "/nonexistent"})))["batch.end_time"]
    assert end.status is FactStatus.UNKNOWN
    assert said in end.detail


def test_an_end_that_cannot_be_read_is_told_beside_one_that_can(tmp_path: Path) -> None:
    (tmp_path / "shutdowntime").write_text("1795600000\n")
    variables = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "x" * 1000, "MACHINEFEATURES": str(tmp_path)}
    end = facts(probe_batch(Context(environment=variables | {"PATH": "/nonexistent"})))["batch.end_time"]
    assert end.value == 1795600000
    assert "SLURM_JOB_END_TIME is 'xxx" in end.detail
    assert len(end.detail) < 200
