from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.probes.batch.allocation import Bound, read_allocations
from pilot_agent.probes.batch.batch import probe_batch
from pilot_agent.probes.batch.htcondor import parse_ad
from pilot_agent.probes.node import Node
from tests.probes.trees import context_of, facts, write_tree

MACHINE = {"_CONDOR_MACHINE_AD": "/ad"}


def test_an_ad_keeps_what_is_written() -> None:
    ad = parse_ad('Cpus = 4\nName = "slot1@x"\nbroken\nRank = a == b\n')
    assert ad == {"cpus": "4", "name": '"slot1@x"', "rank": "a == b"}


def test_an_ad_with_an_expression_for_a_number_gives_no_bound(tmp_path: Path) -> None:
    context = write_tree(tmp_path, {"/ad": "Cpus = TotalCpus / 2\nMemory = 2048.0\nMachine = strcat(x)\n"})
    (found,) = read_allocations(Node(context.root), MACHINE)
    assert (found.cores, found.nodes) == ((), ())
    assert found.memory_mib == (Bound(2048, "HTCondor machine ad Memory"),)


def test_a_slot_says_all_that_its_ads_know() -> None:
    known = facts(probe_batch(context_of("htcondor_slot")))
    assert {name: fact.value for name, fact in known.items() if fact.known} == {
        "batch.system": "htcondor",
        "batch.job_id": "812.3",
        "batch.job_name": "pilots",
        "batch.user": "pilot",
        "batch.account": "group_grid.atlas",
        "batch.nodes": ["slot-host"],
        "batch.node_index": 0,
        "batch.cores": 2,
        "batch.memory_mib": 4096,
        "batch.disk_mib": 102400,
        "batch.gpus": ["GPU-1a2b3c4d"],
        "batch.gpu_count": 1,
        "batch.scratch": "/var/lib/condor/execute/dir_4711",
        "batch.start_time": 1795513600,
        "batch.end_time": 1795513600 + 172800,
        "batch.walltime_seconds": 172800,
        "batch.restarts": 2,
        "batch.draining": False,
    }
    assert known["batch.job_id"].detail == "in slot1_3@slot-host"


def test_a_slot_of_another_pilot_ends_with_it(tmp_path: Path) -> None:
    context = write_tree(tmp_path, {"/ad": "Cpus = 1\nGLIDEIN_ToDie = 1795600000\nDraining = true\nGPUs = 0\n"})
    known = facts(probe_batch(type(context)(root=context.root, environment=MACHINE)))
    assert (known["batch.end_time"].value, known["batch.end_time"].source) == (
        1795600000,
        "HTCondor machine ad GLIDEIN_ToDie",
    )
    assert known["batch.draining"].value is True
    assert (known["batch.gpus"].value, known["batch.gpu_count"].value) == ([], 0)


@pytest.mark.parametrize("path", ["/gone/.machine.ad", "relative/.machine.ad", ""])
def test_variables_of_a_slot_that_is_gone_are_not_believed(tmp_path: Path, path: str) -> None:
    stale = {"_CONDOR_MACHINE_AD": path, "_CONDOR_SCRATCH_DIR": "/gone", "_CONDOR_SLOT": "slot1"}
    assert read_allocations(Node(str(tmp_path)), stale) == ()
