from __future__ import annotations

import os
from pathlib import Path

from pilot_agent.hookspecs import Context
from pilot_agent.model import FactStatus
from pilot_agent.probes.cpu import parse_allowed, parse_cpuinfo, probe_cpu
from tests.probes.trees import context_of, facts, limits, write_tree


def test_bare_metal_has_all_its_threads_and_knows_its_cores() -> None:
    found = list(probe_cpu(context_of("bare_metal_el9")))
    assert limits(found, "cpu.usable") == {"online": 64, "affinity": 64}
    known = facts(found)
    assert (known["cpu.logical"].value, known["cpu.online"].value, known["cpu.physical"].value) == (64, 64, 32)
    assert known["cpu.model"].value == "Intel(R) Xeon(R) Gold 6226R CPU @ 2.90GHz"
    assert "avx512vl" in known["cpu.flags"].value


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


def test_an_arm_processor_is_named_by_its_numbers() -> None:
    known = facts(probe_cpu(context_of("aarch64_mi250")))
    assert known["cpu.model"].value == "Arm implementer 0x41 part 0xd0c"
    assert known["cpu.physical"].value == 4
    assert "asimd" in known["cpu.flags"].value


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
