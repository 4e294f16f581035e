from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.model import FactStatus
from pilot_agent.probes.batch.allocation import Bound, read_allocations
from pilot_agent.probes.batch.batch import probe_batch
from pilot_agent.probes.batch.batch_commands import parse_ctime
from pilot_agent.probes.batch.batch_job import parse_duration_seconds
from pilot_agent.probes.batch.pbs import parse_size_mib
from pilot_agent.probes.node import Node
from tests.probes.trees import context_of, facts, limits, write_tree
from tests.probes.written import written_node

QSTAT = """Job Id: 77.head
    Job_Name = pilot
    job_state = R
    queue = grid
    Resource_List.mem = 16gb
    Resource_List.ncpus = 8
    Resource_List.walltime = 48:00:00
    stime = Sat Nov 21 05:50:25 2026
    Variable_List = PBS_O_HOME=/home/pilot,PBS_O_LANG=C,
\tPBS_O_WORKDIR=/home/pilot
    run_count = 2
    Account_Name = cms

"""
PRO = {"PBS_JOBID": "77.head", "NCPUS": "8", "PBS_NODEFILE": "/aux/77.head"}
FILES = {"/aux/77.head": "n5.example.org\n", "/proc/sys/kernel/hostname": "n5\n"}


def test_torque_without_a_number_is_counted_from_its_node_file(tmp_path: Path) -> None:
    context = write_tree(tmp_path, {"/proc/sys/kernel/hostname": "a\n", "/nodes": "a\na.example.org\nb\n"})
    (found,) = read_allocations(Node(context.root), {"PBS_JOBID": "5", "PBS_NODEFILE": "/nodes"})
    assert found.cores == (Bound(2, "PBS_NODEFILE"),)
    assert (found.nodes, found.node_index) == (("a", "a.example.org", "b"), 0)


def test_cores_of_several_nodes_are_no_bound_for_this_one(tmp_path: Path) -> None:
    environment = {"PBS_JOBID": "5", "PBS_NP": "32", "PBS_NUM_PPN": "8", "PBS_NUM_NODES": "4", "PBS_NODENUM": "3"}
    (found,) = read_allocations(Node(str(tmp_path)), environment)
    assert (found.cores, found.node_index) == ((Bound(8, "PBS_NUM_PPN"),), 3)


def test_torque_tells_the_walltime_and_the_process_below_its_daemon_the_start(tmp_path: Path) -> None:
    stat = "{pid} ({name}) S {parent} 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {ticks} 0 0\n"
    files = {
        "/proc/self/stat": stat.format(pid=30, name="pilot", parent=20, ticks=9000),
        "/proc/20/stat": stat.format(pid=20, name="5.head (x) S", parent=10, ticks=8000),
        "/proc/10/stat": stat.format(pid=10, name="pbs_mom", parent=1, ticks=100),
        "/proc/stat": "cpu 1 2 3\nbtime 1795000000\n",
        "/gpus": "a-gpu1\na-gpu3\nb-gpu0\n",
        "/proc/sys/kernel/hostname": "a\n",
    }
    environment = {"PBS_JOBID": "5.head", "PBS_WALLTIME": "3600", "PBS_GPUFILE": "/gpus", "PBS_QUEUE": "grid"}
    known = facts(probe_batch(written_node(tmp_path, environment, {}, files)))
    assert known["batch.start_time"].value == 1795000080
    assert known["batch.end_time"].value == 1795003680
    assert known["batch.end_time"].source == "start of the process below pbs_mom + PBS_WALLTIME"
    assert (known["batch.gpus"].value, known["batch.gpu_count"].value) == (["gpu1", "gpu3"], 2)
    assert known["batch.queue"].value == "grid"


def test_pbs_professional_is_asked_for_what_its_variables_lack(tmp_path: Path) -> None:
    found = list(probe_batch(written_node(tmp_path, PRO, {("qstat", "-f", "77.head"): QSTAT}, FILES)))
    known = facts(found)
    assert known["batch.start_time"].value == 1795240225
    assert known["batch.walltime_seconds"].value == 48 * 3600
    assert known["batch.end_time"].value == 1795240225 + 48 * 3600
    assert (known["batch.queue"].value, known["batch.account"].value) == ("grid", "cms")
    assert known["batch.restarts"].value == 1
    assert limits(found, "memory.usable_mib") == {"qstat Resource_List.mem": 16384}


def test_memory_of_several_nodes_is_no_bound_for_this_one(tmp_path: Path) -> None:
    files = FILES | {"/aux/77.head": "n5\nn6\n"}
    found = list(probe_batch(written_node(tmp_path, PRO, {("qstat", "-f", "77.head"): QSTAT}, files)))
    assert limits(found, "memory.usable_mib") == {}
    assert facts(found)["batch.memory_mib"].status is FactStatus.UNKNOWN


@pytest.mark.parametrize("job_id", ["77 --help", "-x", "77;ls"])
def test_a_job_id_that_is_none_is_never_given_to_a_program(tmp_path: Path, job_id: str) -> None:
    context = written_node(tmp_path, PRO | {"PBS_JOBID": job_id}, {("qstat", "-f", job_id): QSTAT}, FILES)
    assert facts(probe_batch(context))["batch.walltime_seconds"].status is FactStatus.UNKNOWN


def test_an_end_nobody_tells_is_unknown_and_not_absent() -> None:
    assert facts(probe_batch(context_of("pbs_cgroup1")))["batch.end_time"].status is FactStatus.UNKNOWN


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "its PBS_NODEFILE /aux/77.head is not on this node"),
        ({"/aux/77.head": "n8\nn9\n"}, "its PBS_NODEFILE /aux/77.head does not list this node, n5"),
    ],
)
def test_variables_of_another_machine_are_not_believed(tmp_path: Path, files: dict[str, str], reason: str) -> None:
    context = written_node(tmp_path, PRO, {}, {"/proc/sys/kernel/hostname": "n5\n"} | files)
    system = facts(probe_batch(context))["batch.system"]
    assert (system.value, reason in system.detail) == ("none", True)


def test_a_control_group_of_pbs_speaks_for_variables_that_look_foreign(tmp_path: Path) -> None:
    files = {"/proc/sys/kernel/hostname": "n5\n", "/proc/self/cgroup": "0::/pbs_jobs.service/jobid/77.head\n"}
    assert facts(probe_batch(written_node(tmp_path, PRO, {}, files)))["batch.system"].value == "pbs"


@pytest.mark.parametrize(
    ("text", "seconds"), [("48:00:00", 172800), ("90", 90), ("10:30", 630), ("1:2:3:4", None), ("", None), ("x", None)]
)
def test_durations_are_clocks_or_seconds(text: str, seconds: int | None) -> None:
    assert parse_duration_seconds(text) == seconds


@pytest.mark.parametrize(("text", "mib"), [("16gb", 16384), ("2097152kb", 2048), ("1048576", 1), ("1tb", 1 << 20)])
def test_sizes_have_the_units_of_pbs(text: str, mib: int) -> None:
    assert parse_size_mib(text) == mib


@pytest.mark.parametrize("text", ["", "Sat Nov 21 05:50:25", "Sat Foo 21 05:50:25 2026", "Sat Nov 99 05:50:25 2026"])
def test_a_damaged_time_is_none(text: str) -> None:
    assert parse_ctime(text) is None
