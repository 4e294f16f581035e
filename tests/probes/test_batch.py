from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.model import FactStatus
from pilot_agent.probes.allocation import Bound, parse_ad, parse_memory_mib, read_allocations
from pilot_agent.probes.batch import probe_batch
from pilot_agent.probes.node import Node
from pilot_agent.probes.slurm import expand_hosts, parse_counts, smallest_count
from tests.probes.trees import context_of, facts, write_tree


@pytest.mark.parametrize(
    ("name", "system", "job"),
    [
        ("bare_metal_el9", "none", None),
        ("slurm_cgroup2", "slurm", "4242"),
        ("pbs_cgroup1", "pbs", "1001.head"),
        ("htcondor_slot", "htcondor", "812.3"),
    ],
)
def test_the_batch_system_and_its_job_are_known(name: str, system: str, job: str | None) -> None:
    known = facts(probe_batch(context_of(name)))
    assert known["batch.system"].value == system
    assert known["batch.job_id"].value == job


def test_slurm_says_when_the_job_ends() -> None:
    end = facts(probe_batch(context_of("slurm_cgroup2")))["batch.end_time"]
    assert (end.value, end.unit, end.source) == (1795600000, "s", "SLURM_JOB_END_TIME")


def test_an_end_nobody_tells_is_unknown_and_not_absent() -> None:
    assert facts(probe_batch(context_of("pbs_cgroup1")))["batch.end_time"].status is FactStatus.UNKNOWN


def test_a_slot_inside_a_slurm_job_names_the_slot_and_keeps_both_bounds() -> None:
    context = context_of("htcondor_slot", SLURM_JOB_ID="7", SLURM_CPUS_ON_NODE="12", SLURM_JOB_END_TIME="1795600001")
    known = facts(probe_batch(context))
    assert known["batch.system"].value == "htcondor"
    assert known["batch.system"].detail == "inside slurm"
    assert known["batch.end_time"].value == 1795600001
    inner, outer = read_allocations(Node.of(context), context.environment)
    assert inner.cores == (Bound(2, "HTCondor machine ad Cpus"),)
    assert outer.cores == (Bound(12, "SLURM_CPUS_ON_NODE"),)


def test_variables_of_a_slot_that_is_gone_are_not_believed(tmp_path: Path) -> None:
    stale = {"_CONDOR_MACHINE_AD": "/gone/.machine.ad", "_CONDOR_SCRATCH_DIR": "/gone"}
    assert read_allocations(Node(str(tmp_path)), stale) == ()


def test_a_job_id_alone_is_not_grid_engine(tmp_path: Path) -> None:
    node = Node(str(tmp_path))
    assert read_allocations(node, {"JOB_ID": "12"}) == ()
    (found,) = read_allocations(node, {"JOB_ID": "12", "SGE_ROOT": "/opt/sge", "NSLOTS": "4", "NHOSTS": "1"})
    assert (found.system, found.cores) == ("sge", (Bound(4, "NSLOTS"),))


def test_grid_engine_slots_of_several_hosts_are_those_of_this_one(tmp_path: Path) -> None:
    context = write_tree(
        tmp_path,
        {
            "/proc/sys/kernel/hostname": "n2\n",
            "/spool/pe": "n1.x.org 8 all.q@n1 UNDEFINED\nn2.x.org 3 all.q@n2 UNDEFINED\n",
        },
    )
    environment = {"JOB_ID": "12", "SGE_ROOT": "/o", "NSLOTS": "11", "NHOSTS": "2", "PE_HOSTFILE": "/spool/pe"}
    (found,) = read_allocations(Node(context.root), environment)
    assert found.cores == (Bound(3, "PE_HOSTFILE"),)


def test_lsf_slots_of_several_hosts_are_those_of_this_one(tmp_path: Path) -> None:
    context = write_tree(tmp_path, {"/proc/sys/kernel/hostname": "b.example.org\n"})
    environment = {"LSB_JOBID": "5", "LSB_MCPU_HOSTS": "a 16 b 4", "LSB_DJOB_NUMPROC": "20"}
    (found,) = read_allocations(Node(context.root), environment)
    assert found.cores == (Bound(4, "LSB_MCPU_HOSTS"),)


def test_torque_without_a_number_is_counted_from_its_node_file(tmp_path: Path) -> None:
    context = write_tree(tmp_path, {"/proc/sys/kernel/hostname": "a\n", "/nodes": "a\na.example.org\nb\n"})
    (found,) = read_allocations(Node(context.root), {"PBS_JOBID": "5", "PBS_NODEFILE": "/nodes"})
    assert found.cores == (Bound(2, "PBS_NODEFILE"),)


@pytest.mark.parametrize(("index", "number"), [(0, 72), (1, 72), (2, 36), (3, None)])
def test_a_slurm_list_gives_each_node_its_number(index: int, number: int | None) -> None:
    assert parse_counts("72(x2),36", index) == number


@pytest.mark.parametrize("text", ["", "72(x", "a", "72,,3", "-1"])
def test_a_damaged_slurm_list_gives_no_number(text: str) -> None:
    assert parse_counts(text, 0) is None or text.startswith("72,")
    assert smallest_count(text) is None


def test_the_place_in_the_list_is_that_of_the_nodes_name(tmp_path: Path) -> None:
    environment = {
        "SLURM_JOB_ID": "1",
        "SLURM_JOB_CPUS_PER_NODE": "72(x2),36",
        "SLURM_JOB_NODELIST": "n[1-3]",
        "SLURMD_NODENAME": "n3",
        "SLURM_NODEID": "0",
    }
    (found,) = read_allocations(Node(str(tmp_path)), environment)
    assert found.cores == (Bound(36, "SLURM_JOB_CPUS_PER_NODE"),)


def test_without_a_name_the_number_of_the_node_or_the_smallest_is_taken(tmp_path: Path) -> None:
    node = Node(str(tmp_path))
    base = {"SLURM_JOB_ID": "1", "SLURM_JOB_CPUS_PER_NODE": "72(x2),36"}
    (by_number,) = read_allocations(node, base | {"SLURM_NODEID": "1"})
    (smallest,) = read_allocations(node, base)
    (step,) = read_allocations(
        node, base | {"SLURM_NODEID": "0", "SLURM_STEP_NUM_NODES": "1", "SLURM_JOB_NUM_NODES": "3"}
    )
    assert [found.cores[0].number for found in (by_number, smallest, step)] == [72, 36, 36]


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


def test_an_ad_keeps_what_is_written() -> None:
    ad = parse_ad('Cpus = 4\nName = "slot1@x"\nbroken\nRank = a == b\n')
    assert ad == {"cpus": "4", "name": '"slot1@x"', "rank": "a == b"}


def test_an_ad_with_an_expression_for_a_number_gives_no_bound(tmp_path: Path) -> None:
    context = write_tree(tmp_path, {"/ad": "Cpus = TotalCpus / 2\nMemory = 2048.0\n"})
    (found,) = read_allocations(Node(context.root), {"_CONDOR_MACHINE_AD": "/ad"})
    assert found.cores == ()
    assert found.memory_mib == (Bound(2048, "HTCondor machine ad Memory"),)


@pytest.mark.parametrize(("text", "number"), [("4096", 4096), ("4G", 4096), ("2048K", 2), ("1T", 1 << 20), ("x", None)])
def test_memory_has_units(text: str, number: int | None) -> None:
    assert parse_memory_mib(text) == number


def test_outside_a_batch_system_there_is_no_job() -> None:
    known = facts(probe_batch(Context()))
    assert known["batch.job_id"].status is FactStatus.ABSENT
