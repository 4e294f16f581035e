from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.model import FactStatus
from pilot_agent.probes.resources.cpu import USABLE, parse_allowed, parse_cpuinfo, probe_cpu
from tests.probes.trees import context_of, facts, limits, write_tree


def test_bare_metal_has_all_its_threads_and_knows_its_cores() -> None:
    found = list(probe_cpu(context_of("bare_metal_el9")))
    assert limits(found, "cpu.usable") == {"online": 64, "affinity": 64}
    known = facts(found)
    assert (known["cpu.logical"].value, known["cpu.online"].value, known["cpu.physical"].value) == (64, 64, 32)
    assert (known["cpu.sockets"].value, known["cpu.threads_per_core"].value, known["cpu.smt"].value) == (2, 2, True)
    assert known["cpu.model"].value == "Intel(R) Xeon(R) Gold 6226R CPU @ 2.90GHz"
    assert known["cpu.vendor"].value == "GenuineIntel"
    assert "avx512vl" in known["cpu.flags"].value
    assert known["cpu.features"].status is FactStatus.ABSENT


def test_memory_nodes_have_their_processors_and_memory() -> None:
    known = facts(probe_cpu(context_of("bare_metal_el9")))
    assert known["cpu.numa_nodes"].value == [
        {"id": 0, "cpus": 32, "usable_cpus": 32, "memory_mib": 128486},
        {"id": 1, "cpus": 32, "usable_cpus": 32, "memory_mib": 129113},
    ]


def test_a_step_sees_its_cores_on_one_memory_node_alone() -> None:
    known = facts(probe_cpu(context_of("slurm_cgroup2")))
    assert (known["cpu.online"].value, known["cpu.affinity"].value) == (128, 4)
    assert [each["usable_cpus"] for each in known["cpu.numa_nodes"].value] == [4, 0]


def test_one_file_per_core_is_read_and_one_per_socket(tmp_path: Path) -> None:
    recorded = context_of("bare_metal_el9")
    list(probe_cpu(replace(recorded, root=f"{recorded.root}/root", record=str(tmp_path))))
    read = [json.loads(line) for path in (tmp_path / "readings").iterdir() for line in path.read_text().splitlines()]
    topology = [each["read"] for each in read if "/topology/" in each.get("read", "")]
    assert sum(path.endswith("/thread_siblings_list") for path in topology) == 32
    assert sum(path.endswith("/core_siblings_list") for path in topology) == 2


def test_a_slurm_step_has_its_four_cores_by_every_source() -> None:
    found = limits(probe_cpu(context_of("slurm_cgroup2")), "cpu.usable")
    assert min(found.values()) == 4
    assert found["affinity"] == 4
    assert found["SLURM_CPUS_ON_NODE"] == 4
    assert found["SLURM_JOB_CPUS_PER_NODE"] == 8
    assert found["cpuset /system.slice/slurmstepd.scope/job_4242/step_0"] == 4
    assert found["cpuset /system.slice/slurmstepd.scope/job_4242"] == 8
    assert "cpuset /system.slice" not in found


def test_a_version_1_quota_is_rounded_down_and_says_so() -> None:
    found = limits(probe_cpu(context_of("pbs_cgroup1")), "cpu.usable")
    quota = "cgroup1 cfs_quota /pbs_jobs.service/jobid/1001.head (6.50 rounded to 6)"
    assert found[quota] == min(found.values()) == 6
    assert found["NCPUS"] == 8
    assert "PBS_NODEFILE" not in found


def test_an_htcondor_slot_is_bounded_by_its_ad() -> None:
    found = limits(probe_cpu(context_of("htcondor_slot")), "cpu.usable")
    assert found["HTCondor machine ad Cpus"] == min(found.values()) == 2


def test_a_configured_number_is_one_more_limit() -> None:
    found = limits(probe_cpu(context_of("bare_metal_el9", {"site": {"cpus": 12}})), "cpu.usable")
    assert found["configuration site.cpus"] == min(found.values()) == 12


def test_a_quota_below_one_core_still_gives_one(tmp_path: Path) -> None:
    context = write_tree(
        tmp_path,
        {
            "/sys/devices/system/cpu/online": "0-7\n",
            "/proc/self/cgroup": "0::/\n",
            "/proc/self/mountinfo": "28 23 0:25 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            "/sys/fs/cgroup/cpu.max": "25000 100000\n",
        },
    )
    found = limits(probe_cpu(context), "cpu.usable")
    assert found["cgroup2 cpu.max / (0.25 rounded to 1)"] == 1


def test_processors_of_the_mask_that_do_not_exist_do_not_count(tmp_path: Path) -> None:
    context = write_tree(
        tmp_path,
        {
            "/sys/devices/system/cpu/online": "0-1\n",
            "/proc/self/status": "Cpus_allowed_list:\t0-127\n",
        },
    )
    assert limits(probe_cpu(context), "cpu.usable")["affinity"] == 2


def test_a_configured_number_never_lifts_what_the_batch_system_says() -> None:
    found = limits(probe_cpu(context_of("slurm_cgroup2", {"site": {"cpus": 64}})), "cpu.usable")
    assert found["configuration site.cpus"] == 64
    assert found["SLURM_CPUS_ON_NODE"] == min(found.values()) == 4


@pytest.mark.parametrize("word", ["node", "NODE"])
def test_the_whole_node_is_what_the_kernel_allows(word: str) -> None:
    config = {"site": {"cpus": word}}
    found = limits(probe_cpu(context_of("bare_metal_el9", config, SLURM_JOB_ID="1", SLURM_CPUS_ON_NODE="8")), USABLE)
    assert found == {"online": 64, "affinity": 64}
    confined = limits(probe_cpu(context_of("slurm_cgroup2", config)), USABLE)
    assert "SLURM_CPUS_ON_NODE" not in confined
    assert min(confined.values()) == 4


@pytest.mark.parametrize("word", ["auto", "slot", "Slot"])
def test_the_slot_is_what_the_batch_system_says(word: str) -> None:
    found = limits(probe_cpu(context_of("slurm_cgroup2", {"site": {"cpus": word}})), USABLE)
    assert found["SLURM_CPUS_ON_NODE"] == 4
    assert "configuration site.cpus" not in found


def test_a_quota_of_a_slice_above_binds_on_el7() -> None:
    found = list(probe_cpu(context_of("el7_cgroup1")))
    bounds = limits(found, USABLE)
    assert bounds["cgroup1 cfs_quota /pilots.slice/pilots-atlas.slice"] == min(bounds.values()) == 12
    known = facts(found)
    assert (known["cpu.smt"].value, known["cpu.sockets"].value, known["cpu.physical"].value) == (True, 2, 12)


def test_a_pod_has_the_quota_at_the_root_of_its_namespace() -> None:
    bounds = limits(probe_cpu(context_of("kubernetes_pod")), USABLE)
    assert bounds["cgroup2 cpu.max /"] == min(bounds.values()) == 4
    assert bounds["cpuset /"] == 64


def test_an_arm_server_is_named_with_its_architecture() -> None:
    found = list(probe_cpu(context_of("aarch64_neoverse")))
    known = facts(found)
    assert known["cpu.model"].value == "Neoverse-N1 (implementer 0x41 part 0xd0c)"
    assert known["cpu.vendor"].value == "Arm"
    assert known["cpu.features"].value["level"] == "armv8.2-a"
    assert "atomics" in known["cpu.features"].value["names"]
    assert (known["cpu.smt"].value, known["cpu.physical"].value, known["cpu.affinity"].value) == (False, 80, 64)
    assert min(limits(found, USABLE).values()) == 40


def test_a_small_arm_node_is_known_without_topology() -> None:
    known = facts(probe_cpu(context_of("aarch64_mi250")))
    assert "asimd" in known["cpu.flags"].value
    assert known["cpu.physical"].value == 4
    assert known["cpu.numa_nodes"].status is FactStatus.ABSENT


def test_an_unknown_arm_processor_is_named_by_its_numbers() -> None:
    found = parse_cpuinfo("processor : 0\nCPU implementer : 0x77\nCPU part : 0x1\nFeatures : fp\n")
    assert (found.model, found.vendor) == ("Arm implementer 0x77 part 0x1", "implementer 0x77")


def test_a_processor_switched_off_makes_no_core(tmp_path: Path) -> None:
    context = write_tree(
        tmp_path,
        {
            "/sys/devices/system/cpu/online": "0-2\n",
            "/sys/devices/system/cpu/present": "0-3\n",
            "/sys/devices/system/cpu/cpu0/topology/thread_siblings_list": "0,2\n",
            "/sys/devices/system/cpu/cpu1/topology/thread_siblings_list": "1,3\n",
            "/sys/devices/system/cpu/cpu0/topology/core_siblings_list": "0-3\n",
            "/proc/self/cgroup": "3:cpuset:/\n",
            "/proc/self/mountinfo": "28 23 0:25 / /cg rw - cgroup cgroup rw,cpuset\n",
            "/cg/cpuset.cpus": "0-3\n",
        },
    )
    found = list(probe_cpu(context))
    known = facts(found)
    assert (known["cpu.logical"].value, known["cpu.online"].value, known["cpu.physical"].value) == (4, 3, 2)
    assert (known["cpu.threads_per_core"].value, known["cpu.smt"].value) == (2, True)
    assert limits(found, USABLE)["cpuset /"] == 3


def test_a_node_without_proc_and_sys_has_unknown_cores(tmp_path: Path) -> None:
    found = list(probe_cpu(Context(root=str(tmp_path))))
    assert {fact.status for fact in facts(found).values()} == {FactStatus.UNKNOWN}
    assert "cpu.usable" in facts(found)
    assert not limits(found, "cpu.usable")


def test_cpuinfo_counts_cores_once_for_all_their_threads() -> None:
    blocks = [f"processor : {n}\nphysical id : 0\ncore id : {n % 2}\n" for n in range(4)]
    assert parse_cpuinfo("\n".join(blocks)).physical == 2


def test_a_status_without_a_mask_gives_none() -> None:
    assert parse_allowed("Name:\tx\n") is None


def test_this_machine_agrees_with_its_kernel() -> None:
    found = list(probe_cpu(Context()))
    assert limits(found, "cpu.usable")["affinity"] == len(os.sched_getaffinity(0))
    assert facts(found)["cpu.online"].value == os.sysconf("SC_NPROCESSORS_ONLN")
