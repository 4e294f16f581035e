from __future__ import annotations

from pathlib import Path

from pilot_agent.probes.batch.allocation import Bound, read_allocations, survey
from pilot_agent.probes.batch.batch import probe_batch
from pilot_agent.probes.node import Node
from tests.probes.trees import context_of, facts, write_tree

MARKED = {"JOB_ID": "12", "SGE_ROOT": "/o"}


def test_a_job_id_alone_is_not_grid_engine(tmp_path: Path) -> None:
    node = Node(str(tmp_path))
    assert read_allocations(node, {"JOB_ID": "12"}) == ()
    (found,) = read_allocations(node, MARKED | {"NSLOTS": "4", "NHOSTS": "1", "SGE_TASK_ID": "undefined"})
    assert (found.system, found.job_id, found.cores) == ("sge", "12", (Bound(4, "NSLOTS"),))


def test_slots_of_several_hosts_are_those_of_this_one(tmp_path: Path) -> None:
    lines = "n1.x.org 8 all.q@n1 UNDEFINED\nn2.x.org 2 all.q@n2 UNDEFINED\nn2.x.org 1 long.q@n2 UNDEFINED\n"
    context = write_tree(tmp_path, {"/proc/sys/kernel/hostname": "n2\n", "/spool/pe": lines})
    (found,) = read_allocations(
        Node(context.root), MARKED | {"NSLOTS": "11", "NHOSTS": "2", "PE_HOSTFILE": "/spool/pe"}
    )
    assert found.cores == (Bound(3, "PE_HOSTFILE"),)


def test_a_task_with_gpus_says_all_that_grid_engine_knows() -> None:
    known = facts(probe_batch(context_of("uge_gpu")))
    assert {name: fact.value for name, fact in known.items() if fact.known} == {
        "batch.system": "sge",
        "batch.job_id": "5150.3",
        "batch.job_name": "pilots",
        "batch.user": "pilot",
        "batch.queue": "gpu.q",
        "batch.account": "cms",
        "batch.nodes": ["gpu7.example.org", "gpu8.example.org"],
        "batch.node_index": 0,
        "batch.cores": 4,
        "batch.gpus": ["0", "2"],
        "batch.gpu_count": 2,
        "batch.scratch": "/scratch/5150.3.gpu.q",
        "batch.start_time": 1795510900,
        "batch.restarts": 1,
    }


def test_a_job_whose_spool_directory_is_gone_is_another_machines(tmp_path: Path) -> None:
    found = survey(Node(str(tmp_path)), MARKED | {"SGE_JOB_SPOOL_DIR": "/spool/active_jobs/12.1"})
    assert found.allocations == ()
    assert found.disbelieved[0].reason.endswith("its SGE_JOB_SPOOL_DIR /spool/active_jobs/12.1 is not on this node")


def test_a_damaged_binding_is_no_bound(tmp_path: Path) -> None:
    (found,) = read_allocations(Node(str(tmp_path)), MARKED | {"SGE_BINDING": "0 x 2", "NSLOTS": "4"})
    assert found.cores == (Bound(4, "NSLOTS"),)
