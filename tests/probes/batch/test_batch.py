from __future__ import annotations

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
