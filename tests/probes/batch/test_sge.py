from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_agent.hookspecs import Context
from pilot_agent.probes.batch.allocation import Bound, read_allocations, survey
from pilot_agent.probes.batch.batch import probe_batch
from pilot_agent.probes.batch.sge import parse_run_time
from pilot_agent.probes.node import Node
from tests.probes.trees import context_of, facts, write_tree
from tests.probes.written import written_node

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


QSTAT = """==============================================================
job_number:                 12
job_name:                   pilot h_rt=5
hard resource_list:         mem_free=4G,h_rt=7200,num_proc=4
soft resource_list:         h_rt=1
"""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (QSTAT, 7200),
        ("hard_resource_list:         h_rt=2:00:00", 7200),
        ("hard resource_list:         h_rt=INFINITY", None),
        ("hard resource_list:         s_rt=60,x_h_rt=70", None),
        ("soft resource_list:         h_rt=1", None),
        ("", None),
    ],
)
def test_the_run_time_is_the_one_that_the_job_must_have(text: str, seconds: int | None) -> None:
    assert parse_run_time(text) == seconds


@given(st.text() | st.from_regex(r"hard resource_list: [a-z_=0-9:,]{0,30}"))
def test_a_run_time_of_any_text_is_a_time_or_none(text: str) -> None:
    found = parse_run_time(text)
    assert found is None or found >= 0


def test_grid_engine_is_asked_for_the_run_time(tmp_path: Path) -> None:
    stat = "{pid} ({name}) S {parent} 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {ticks} 0 0\n"
    files = {
        "/proc/self/stat": stat.format(pid=30, name="pilot", parent=10, ticks=9000),
        "/proc/10/stat": stat.format(pid=10, name="sge_shepherd", parent=1, ticks=100),
        "/proc/stat": "btime 1795000000\n",
    }
    asked = ("qstat", "-j", "12")
    known = facts(probe_batch(written_node(tmp_path, MARKED | {"SGE_TASK_ID": "3"}, {asked: QSTAT}, files)))
    assert (known["batch.walltime_seconds"].value, known["batch.walltime_seconds"].source) == (7200, "qstat h_rt")
    assert known["batch.end_time"].value == 1795000090 + 7200


def test_without_an_answer_the_end_is_unknown_and_says_why() -> None:
    known = facts(probe_batch(Context(environment=MARKED | {"SGE_TASK_ID": "3", "PATH": "/nonexistent"})))
    assert not known["batch.end_time"].known
    assert "qstat" in known["batch.end_time"].detail
