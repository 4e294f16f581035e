from __future__ import annotations

from pathlib import Path

from pilot_agent.model import FactStatus
from pilot_agent.probes.batch.allocation import Bound, read_allocations
from pilot_agent.probes.batch.batch import probe_batch
from pilot_agent.probes.node import Node
from pilot_agent.probes.resources.cpu import probe_cpu
from tests.probes.trees import context_of, facts, limits, write_tree


def test_slots_of_several_hosts_are_those_of_this_one(tmp_path: Path) -> None:
    context = write_tree(tmp_path, {"/proc/sys/kernel/hostname": "b.example.org\n"})
    environment = {"LSB_JOBID": "5", "LSB_MCPU_HOSTS": "a 16 b 4", "LSB_DJOB_NUMPROC": "20"}
    (found,) = read_allocations(Node(context.root), environment)
    assert found.cores == (Bound(4, "LSB_MCPU_HOSTS"),)


def test_the_number_of_all_slots_counts_on_one_host(tmp_path: Path) -> None:
    (found,) = read_allocations(Node(str(tmp_path)), {"LSB_JOBID": "5", "LSB_DJOB_NUMPROC": "6", "LSB_JOBINDEX": "0"})
    assert (found.cores, found.job_id) == ((Bound(6, "LSB_DJOB_NUMPROC"),), "5")


def test_an_element_of_an_array_says_all_that_lsf_knows() -> None:
    known = facts(probe_batch(context_of("lsf_power9")))
    assert {name: fact.value for name, fact in known.items() if fact.known} == {
        "batch.system": "lsf",
        "batch.job_id": "88101[7]",
        "batch.job_name": "pilots[1-9]",
        "batch.user": "pilot",
        "batch.queue": "batch",
        "batch.account": "HEP101",
        "batch.nodes": ["batch2", "h41n05", "h41n06"],
        "batch.node_index": 1,
        "batch.cores": 16,
        "batch.memory_mib": 65536,
        "batch.scratch": "/tmp/88101.tmpdir",
        "batch.start_time": 1795513601,
    }
    assert known["batch.end_time"].status is FactStatus.UNKNOWN
    assert limits(probe_cpu(context_of("lsf_power9")), "cpu.usable")["LSB_MCPU_HOSTS"] == 16


def test_hosts_of_another_place_are_not_believed(tmp_path: Path) -> None:
    context = write_tree(tmp_path, {"/proc/sys/kernel/hostname": "c\n"})
    assert read_allocations(Node(context.root), {"LSB_JOBID": "5", "LSB_MCPU_HOSTS": "a 16 b 4"}) == ()
