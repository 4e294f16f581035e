from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.model import FactStatus
from pilot_agent.probes.answers import Command
from pilot_agent.probes.batch.allocation import Allocation, Bound, read_allocations
from pilot_agent.probes.batch.batch import probe_batch
from pilot_agent.probes.batch.batch_commands import why_not
from pilot_agent.probes.batch.batch_job import host_name, parse_memory_mib
from pilot_agent.probes.batch.slurm_controller import parse_drains, parse_pairs
from pilot_agent.probes.batch.slurm_lists import expand_hosts, parse_counts, smallest_count
from pilot_agent.probes.node import Node
from tests.probes.trees import context_of, facts, limits, write_tree
from tests.probes.written import written_node


def read(node: Node, environment: dict[str, str]) -> Allocation:
    (found,) = read_allocations(node, {"SLURM_JOB_ID": "1"} | environment)
    return found


@pytest.mark.parametrize(("index", "number"), [(0, 72), (1, 72), (2, 36), (3, None)])
def test_a_list_gives_each_node_its_number(index: int, number: int | None) -> None:
    assert parse_counts("72(x2),36", index) == number


@pytest.mark.parametrize("text", ["", "72(x", "a", "72,,3", "-1"])
def test_a_damaged_list_gives_no_number(text: str) -> None:
    assert parse_counts(text, 0) is None or text.startswith("72,")
    assert smallest_count(text) is None


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("n1", ("n1",)),
        ("n[01-03,7]", ("n01", "n02", "n03", "n7")),
        ("a[1-2]b[3-4]-x,c", ("a1b3-x", "a1b4-x", "a2b3-x", "a2b4-x", "c")),
        ("n[3-1]", None),
        ("n[1", None),
        ("n]1", None),
        ("", None),
        ("n[0-999999999]", None),
        ("a[0-9999]b[0-9999]", None),
    ],
)
def test_host_lists_are_expanded_in_order(text: str, hosts: tuple[str, ...] | None) -> None:
    assert expand_hosts(text) == hosts


def test_the_place_in_the_list_is_that_of_the_nodes_name(tmp_path: Path) -> None:
    environment = {
        "SLURM_JOB_CPUS_PER_NODE": "72(x2),36",
        "SLURM_JOB_NODELIST": "n[1-3]",
        "SLURMD_NODENAME": "n3",
        "SLURM_NODEID": "0",
    }
    found = read(Node(str(tmp_path)), environment)
    assert found.cores == (Bound(36, "SLURM_JOB_CPUS_PER_NODE"),)
    assert (found.nodes, found.node_index) == (("n1", "n2", "n3"), 2)


def test_without_a_name_the_hosts_own_is_looked_for(tmp_path: Path) -> None:
    context = write_tree(tmp_path, {"/proc/sys/kernel/hostname": "n2.example.org\n"})
    found = read(Node(context.root), {"SLURM_JOB_CPUS_PER_NODE": "8,4", "SLURM_JOB_NODELIST": "n[1-2]"})
    assert found.cores == (Bound(4, "SLURM_JOB_CPUS_PER_NODE"),)


def test_without_a_name_the_number_of_the_node_or_the_smallest_is_taken(tmp_path: Path) -> None:
    node = Node(str(tmp_path))
    base = {"SLURM_JOB_CPUS_PER_NODE": "72(x2),36"}
    by_number = read(node, base | {"SLURM_NODEID": "1"})
    smallest = read(node, base)
    step = read(node, base | {"SLURM_NODEID": "0", "SLURM_STEP_NUM_NODES": "1", "SLURM_JOB_NUM_NODES": "3"})
    assert [found.cores[0].number for found in (by_number, smallest, step)] == [72, 36, 36]


def test_tasks_say_how_many_cores_only_where_nothing_else_does(tmp_path: Path) -> None:
    tasks = {"SLURM_TASKS_PER_NODE": "2(x3)", "SLURM_CPUS_PER_TASK": "4", "SLURM_NODEID": "1"}
    node = Node(str(tmp_path))
    assert read(node, tasks).cores == (Bound(8, "SLURM_TASKS_PER_NODE x 4 cores"),)
    whole = read(node, tasks | {"SLURM_CPUS_ON_NODE": "64"})
    assert whole.cores == (Bound(64, "SLURM_CPUS_ON_NODE"),)


@pytest.mark.parametrize(
    ("step", "cores", "memory"),
    [
        ({"SLURM_STEP_TASKS_PER_NODE": "1(x2)", "SLURM_STEP_NODELIST": "n[1-2]"}, 8, 16000),
        ({"SLURM_STEP_TASKS_PER_NODE": "1,3", "SLURM_STEP_NODELIST": "n[1-2]"}, 2, 5333),
        ({"SLURM_STEP_TASKS_PER_NODE": "1,2", "SLURM_NODEID": "1"}, 4, 8000),
        ({"SLURM_STEP_TASKS_PER_NODE": "4"}, 2, 4000),
        ({"SLURM_STEP_TASKS_PER_NODE": "x", "SLURM_STEP_NODELIST": "["}, 8, 16000),
    ],
)
def test_tasks_of_a_step_on_one_node_share_what_the_step_has_there(
    tmp_path: Path, step: dict[str, str], cores: int, memory: int
) -> None:
    job = {"SLURM_CPUS_ON_NODE": "8", "SLURM_MEM_PER_NODE": "16000", "SLURMD_NODENAME": "n2"}
    found = read(Node(str(tmp_path)), job | step)
    assert (found.cores[0].number, found.memory_mib[0].number) == (cores, memory)


def test_a_component_of_a_heterogeneous_job_has_its_own_numbers(tmp_path: Path) -> None:
    environment = {
        "SLURM_HET_SIZE": "2",
        "SLURM_JOB_NODELIST": "a1",
        "SLURM_JOB_CPUS_PER_NODE": "2",
        "SLURM_JOB_NODELIST_HET_GROUP_0": "a1",
        "SLURM_JOB_CPUS_PER_NODE_HET_GROUP_0": "2",
        "SLURM_JOB_NODELIST_HET_GROUP_1": "b[1-2]",
        "SLURM_JOB_CPUS_PER_NODE_HET_GROUP_1": "16,8",
        "SLURM_MEM_PER_CPU_HET_GROUP_1": "1000",
        "SLURM_JOB_PARTITION": "small",
        "SLURM_JOB_PARTITION_HET_GROUP_1": "big",
        "SLURMD_NODENAME": "b2",
    }
    found = read(Node(str(tmp_path)), environment)
    assert found.cores == (Bound(8, "SLURM_JOB_CPUS_PER_NODE_HET_GROUP_1"),)
    assert found.memory_mib == (Bound(8000, "SLURM_MEM_PER_CPU x 8 cores"),)
    assert (found.nodes, found.node_index, found.queue) == (("a1", "b1", "b2"), 2, "big")
    assert found.job_note == "a heterogeneous job of 2 components"


def test_all_memory_of_a_node_is_no_bound(tmp_path: Path) -> None:
    assert read(Node(str(tmp_path)), {"SLURM_MEM_PER_NODE": "0"}).memory_mib == ()


def test_memory_may_go_with_the_gpus(tmp_path: Path) -> None:
    environment = {"SLURM_MEM_PER_GPU": "20G", "SLURM_GPUS_ON_NODE": "2", "SLURM_JOB_GPUS": "gpu:0,gpu:3"}
    found = read(Node(str(tmp_path)), environment)
    assert found.memory_mib == (Bound(40960, "SLURM_MEM_PER_GPU x 2 GPUs"),)
    assert found.gpus == ("0", "3")


@pytest.mark.parametrize(("text", "number"), [("4096", 4096), ("4G", 4096), ("2048K", 2), ("1T", 1 << 20), ("x", None)])
def test_memory_has_units(text: str, number: int | None) -> None:
    assert parse_memory_mib(text) == number


def test_a_step_says_all_that_slurm_knows() -> None:
    known = facts(probe_batch(context_of("slurm_cgroup2")))
    assert {name: fact.value for name, fact in known.items() if fact.known} == {
        "batch.system": "slurm",
        "batch.job_id": "4242",
        "batch.job_name": "pilot",
        "batch.user": "pilot",
        "batch.queue": "grid",
        "batch.account": "atlas",
        "batch.nodes": ["n016", "n017", "n018"],
        "batch.node_index": 2,
        "batch.cores": 4,
        "batch.memory_mib": 16384,
        "batch.scratch": "/tmp/job4242",
        "batch.start_time": 1795513600,
        "batch.end_time": 1795600000,
        "batch.walltime_seconds": 86400,
        "batch.restarts": 1,
        "batch.draining": True,
    }
    assert known["batch.job_id"].detail == "task 2 of array 4240, step 0"
    assert {limit.source for limit in known["batch.cores"].limits} == {"SLURM_CPUS_ON_NODE", "SLURM_JOB_CPUS_PER_NODE"}
    assert "slurm sends no further jobs" in known["batch.draining"].detail


JOB = "JobId=7 JobName=x State=RUNNING StartTime=2026-11-21T06:00:00 EndTime={end} Deadline=N/A Partition=grid\n"
NODE = "NodeName=n1 Arch=x86_64 State={state} ThreadsPerCore=1 Reason=State=IDLE [root@2026-11-20T09:00:00]\n"
OLD = {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1", "SLURM_CPUS_ON_NODE": "2"}


def asked(tmp_path: Path, *, end: str = "2026-11-21T06:05:00", state: str = "IDLE") -> dict[str, object]:
    node = ("scontrol", "--oneliner", "show", "node", "n1")
    job = ("scontrol", "--oneliner", "show", "job", "7")
    context = written_node(tmp_path, OLD, {node: NODE.format(state=state), job: JOB.format(end=end)})
    return {name: fact.value for name, fact in facts(probe_batch(context)).items()}


def test_times_that_no_variable_has_are_asked_for(tmp_path: Path) -> None:
    known = asked(tmp_path)
    assert (known["batch.end_time"], known["batch.walltime_seconds"]) == (1795241100, 300)


def test_a_job_without_a_limit_has_no_end(tmp_path: Path) -> None:
    assert asked(tmp_path, end="Unknown")["batch.end_time"] is None


@pytest.mark.parametrize(
    ("state", "drains"),
    [("IDLE", False), ("MIXED+DRAIN", True), ("DRAINED*", True), ("IDLE+PLANNED", False), ("ALLOCATED+DRAIN*", True)],
)
def test_the_state_of_the_node_says_whether_it_drains(tmp_path: Path, state: str, drains: bool) -> None:
    assert asked(tmp_path, state=state)["batch.draining"] is drains


def test_a_controller_that_refuses_leaves_it_unknown() -> None:
    refused = Command(("scontrol",), 1, "State=DRAIN\n", "slurm_load_node error: Unable to contact slurm controller")
    assert parse_drains(refused) is None
    assert parse_pairs(refused) == {}
    assert why_not(Command(("scontrol",), problem="ENOENT", missing=True)) == "scontrol is not in the search path"
    assert why_not(refused).startswith("scontrol ended with 1: slurm_load_node error")


def test_without_scontrol_the_end_is_unknown_and_the_reader_told_what_to_set() -> None:
    environment = OLD | {"PATH": "/nonexistent", "SLURM_CONF": "/nonexistent"}
    known = facts(probe_batch(Context(environment=environment | {"SLURMD_NODENAME": host_name(Node("/"))})))
    assert known["batch.end_time"].status is FactStatus.UNKNOWN
    assert "; scontrol" in known["batch.end_time"].detail
    assert "time.walltime_seconds" in known["batch.end_time"].detail
    assert "slurm did not say whether this node drains; scontrol" in known["batch.draining"].detail


def test_what_other_probes_read_themselves_is_not_told_twice() -> None:
    assert limits(probe_batch(context_of("slurm_cgroup2")), "cpu.usable") == {}
