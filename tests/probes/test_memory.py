from __future__ import annotations

import os
from pathlib import Path

from pilot_agent.hookspecs import Context
from pilot_agent.model import FactStatus
from pilot_agent.probes.memory import parse_address_space, parse_size_option, probe_memory
from tests.probes.trees import context_of, facts, limits


def test_bare_metal_is_bounded_by_its_total_alone() -> None:
    found = list(probe_memory(context_of("bare_metal_el9")))
    assert limits(found, "memory.usable_mib") == {"MemTotal": 257600}
    known = facts(found)
    assert known["memory.total_mib"].value == 257600
    assert known["memory.swap_mib"].value == 4095
    assert known["memory.shm_mib"].value == 128800


def test_every_group_above_a_slurm_step_is_a_limit() -> None:
    found = limits(probe_memory(context_of("slurm_cgroup2")), "memory.usable_mib")
    job = "/system.slice/slurmstepd.scope/job_4242"
    assert found[f"cgroup2 memory.max {job}"] == 32768
    assert found[f"cgroup2 memory.max {job}/step_0"] == 16384
    assert found["SLURM_MEM_PER_CPU x 4 cores"] == 16384
    assert min(found.values()) == 16384


def test_version_1_tells_of_ancestors_that_cannot_be_seen() -> None:
    found = limits(probe_memory(context_of("pbs_cgroup1")), "memory.usable_mib")
    group = "/pbs_jobs.service/jobid/1001.head"
    assert found[f"cgroup1 memory.limit_in_bytes {group}"] == 20480
    assert found[f"cgroup1 hierarchical_memory_limit {group}"] == min(found.values()) == 19456
    assert found["RLIMIT_AS"] == 32768
    assert "cgroup1 memory.limit_in_bytes /" not in found


def test_an_htcondor_slot_is_bounded_by_ad_and_group() -> None:
    found = limits(probe_memory(context_of("htcondor_slot")), "memory.usable_mib")
    assert found["HTCondor machine ad Memory"] == 4096
    assert min(found.values()) == 4096


def test_a_configured_number_is_one_more_limit() -> None:
    found = limits(probe_memory(context_of("bare_metal_el9", {"site": {"memory_mib": 2000}})), "memory.usable_mib")
    assert found["configuration site.memory_mib"] == 2000


def test_all_of_a_nodes_memory_is_no_limit_in_slurm() -> None:
    found = limits(
        probe_memory(context_of("bare_metal_el9", SLURM_JOB_ID="1", SLURM_MEM_PER_NODE="0")), "memory.usable_mib"
    )
    assert found == {"MemTotal": 257600}


def test_shared_memory_without_a_size_is_half_of_all() -> None:
    shared = facts(probe_memory(context_of("slurm_cgroup2")))["memory.shm_mib"]
    assert shared.value == 515898 // 2
    assert "half" in shared.detail


def test_a_node_without_proc_has_unknown_memory(tmp_path: Path) -> None:
    found = list(probe_memory(Context(root=str(tmp_path))))
    assert {fact.status for fact in facts(found).values()} == {FactStatus.UNKNOWN}
    assert not limits(found, "memory.usable_mib")


def test_an_unlimited_address_space_is_no_limit() -> None:
    assert parse_address_space("Max address space         unlimited            unlimited            bytes\n") is None
    assert parse_address_space("Max address space         4096                 unlimited            bytes\n") == 4096


def test_sizes_of_a_tmpfs_have_units() -> None:
    assert parse_size_option(("rw", "size=2m")) == 2 << 20
    assert parse_size_option(("rw", "size=4096")) == 4096
    assert parse_size_option(("rw", "size=50%")) is None
    assert parse_size_option(("rw",)) is None


def test_this_machine_has_the_memory_its_kernel_says() -> None:
    known = facts(probe_memory(Context()))
    assert known["memory.total_mib"].value == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    assert known["memory.shm_mib"].known
