"""What sites tell of machine and job reaches the ad under the names that users' expressions rely on."""

from __future__ import annotations

import pytest

from pilot_agent.model import Json
from pilot_agent.plugins.attributes import feature_attributes
from pilot_agent.probes.batch.batch import probe_batch
from pilot_agent.startd.classad import attribute_name
from tests.probes.trees import context_of, facts


def test_features_of_machine_and_job_are_numbers_under_their_usual_names() -> None:
    told = facts(probe_batch(context_of("mjf_virtual_machine")))["batch.features"].value
    found = feature_attributes(told)
    assert found == {
        "MJF_MACHINE_TOTAL_CPU": 8,
        "MJF_MACHINE_HS06": 91.2,
        "MJF_MACHINE_SHUTDOWNTIME": 1795600000,
        "MJF_MACHINE_GRACE_SECS": 7200,
        "MJF_JOB_ALLOCATED_CPU": 6,
        "MJF_JOB_JOBSTART_SECS": 1795513600,
        "MJF_JOB_WALL_LIMIT_SECS": 90000,
        "MJF_JOB_MAX_RSS_BYTES": 12 << 30,
        "MJF_JOB_SCRATCH_LIMIT_BYTES": 80 << 30,
        "MJF_JOB_ID": "vm-17.example.org",
    }
    assert [attribute_name(name) for name in found] == list(found)


@pytest.mark.parametrize("value", [None, {}, {"machine": {}}, {"job": {"unheard_of": 1}}, "x"])
def test_what_is_not_told_is_not_advertised(value: Json) -> None:
    assert feature_attributes(value) == {}
