from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.plugins.batch import hold_seconds, own_output
from pilot_agent.probes.batch.allocation import Bound, read_allocations, survey
from pilot_agent.probes.batch.batch import probe_batch
from pilot_agent.probes.node import Node
from tests.probes.trees import context_of, facts, write_tree

FOREIGN = {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n018", "SLURM_CPUS_ON_NODE": "64"}


def test_a_slot_inside_a_slurm_job_names_the_slot_and_keeps_both_bounds() -> None:
    context = context_of("htcondor_slot", SLURM_JOB_ID="7", SLURM_CPUS_ON_NODE="12", SLURM_JOB_END_TIME="1795600001")
    known = facts(probe_batch(context))
    assert known["batch.system"].value == "htcondor"
    assert known["batch.system"].detail == "inside slurm"
    assert known["batch.end_time"].value == 1795600001
    inner, outer = read_allocations(Node.of(context), context.environment)
    assert inner.cores == (Bound(2, "HTCondor machine ad Cpus"),)
    assert outer.cores == (Bound(12, "SLURM_CPUS_ON_NODE"),)
    assert known["batch.cores"].value == 2
    assert len(known["batch.cores"].limits) == 2


def test_a_slot_in_a_slurm_job_on_another_host_has_only_the_submitters_variables() -> None:
    known = facts(probe_batch(context_of("htcondor_slot", None, **FOREIGN)))
    assert known["batch.cores"].value == 2
    assert known["batch.system"].detail == (
        "SLURM_JOB_ID is 7, but its SLURMD_NODENAME is n018, and this node is slot-host: not believed"
    )


def test_slurms_name_for_a_node_need_not_be_the_hosts_own(tmp_path: Path) -> None:
    own = {"/proc/sys/kernel/hostname": "rack3-17\n"}
    cgroup = write_tree(tmp_path / "a", own | {"/proc/self/cgroup": "0::/system.slice/slurmstepd.scope/job_7\n"})
    stat = "9 (slurmstepd) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0\n"
    daemon = write_tree(tmp_path / "b", own | {"/proc/self/stat": stat})
    plain = write_tree(tmp_path / "c", own)
    found = [len(read_allocations(Node(context.root), FOREIGN)) for context in (cgroup, daemon, plain)]
    assert found == [1, 1, 0]


def test_a_shell_with_an_allocation_elsewhere_is_in_no_job(tmp_path: Path) -> None:
    """salloc(1) starts a shell where it was called, with the variables of the allocation."""
    context = write_tree(tmp_path, {"/proc/sys/kernel/hostname": "login1\n"})
    found = survey(Node(context.root), {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-4]"})
    assert found.allocations == ()
    assert "SLURM_JOB_NODELIST does not include this node, login1" in found.disbelieved[0].reason


def test_a_failed_pilot_holds_its_slot_only_inside_a_job() -> None:
    assert hold_seconds(None, {"SLURM_JOB_ID": "7"}) == 1200
    assert hold_seconds(None, {"MACHINEFEATURES": "/nonexistent"}) == 0
    assert hold_seconds(None, {}) == 0
    assert hold_seconds(7, {"SLURM_JOB_ID": "7"}) == 7


@pytest.mark.parametrize(
    ("environment", "output"),
    [
        ({}, "out"),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, "out"),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, "out"),
        ({"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4"}, "out/rank-3"),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, "out/rank-1"),
        ({"PMI_RANK": "0", "PMI_SIZE": "2"}, "out/rank-0"),
        ({"PMI_RANK": "../../etc", "PMI_SIZE": "2"}, "out"),
        ({"PMI_RANK": "1" * 400, "PMI_SIZE": "2"}, "out"),
        ({"PMIX_RANK": "0", "PMIX_NAMESPACE": "prterun-n1-7@1"}, "out/rank-0"),
        ({"PMIX_RANK": "1", "PMIX_NAMESPACE": "prterun-n1-7@1"}, "out/rank-1"),
        ({"PMIX_RANK": "1", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, "out/rank-1"),
        ({"PMIX_RANK": "0", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, "out"),
        ({"PMIX_RANK": "1", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, "out/rank-1"),
        ({"PMIX_RANK": "../../etc"}, "out"),
        ({"PMIX_RANK": "1" * 400}, "out"),
    ],
)
def test_each_of_several_tasks_has_an_output_of_its_own(environment: dict[str, str], output: str) -> None:
    assert own_output("out", environment) == output
