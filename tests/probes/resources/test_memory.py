from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pilot_agent.hookspecs import Context
from pilot_agent.model import FactStatus
from pilot_agent.probes.resources.memory import parse_address_space, parse_size_option, probe_memory
from tests.probes.trees import context_of, facts, limits
from tests.probes.written import written_node


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
    # Nothing was recorded but the mount.
    shared = facts(probe_memory(context_of("slurm_cgroup2")))["memory.shm_mib"]
    assert shared.value == 515898 // 2
    assert "half" in shared.detail


def test_a_node_without_proc_has_unknown_memory(tmp_path: Path) -> None:
    found = list(probe_memory(Context(root=str(tmp_path))))
    known = facts(found)
    assert known.pop("memory.reserve_mib").value == 0
    assert {fact.status for fact in known.values()} == {FactStatus.UNKNOWN}
    assert not limits(found, "memory.usable_mib")


def test_the_pilots_own_reserve_is_taken_from_the_smallest_bound() -> None:
    found = list(probe_memory(context_of("slurm_cgroup2", {"site": {"memory_reserve_mib": 100}})))
    bounds = limits(found, "memory.usable_mib")
    (source,) = [source for source in bounds if "site.memory_reserve_mib" in source]
    assert source.startswith("cgroup2 memory.max /system.slice/slurmstepd.scope/job_4242/step_0")
    assert bounds[source] == min(bounds.values()) == 16384 - 100
    assert facts(found)["memory.reserve_mib"].value == 100


def test_a_reserve_larger_than_all_memory_leaves_none() -> None:
    config = {"site": {"memory_mib": 50, "memory_reserve_mib": 64}}
    assert min(limits(probe_memory(context_of("bare_metal_el9", config)), "memory.usable_mib").values()) == 0


def test_without_a_reserve_nothing_is_taken() -> None:
    config = {"site": {"memory_reserve_mib": 0}}
    assert limits(probe_memory(context_of("bare_metal_el9", config)), "memory.usable_mib") == {"MemTotal": 257600}


def test_reserved_huge_pages_are_no_memory_for_jobs() -> None:
    found = list(probe_memory(context_of("el7_cgroup1")))
    assert limits(found, "memory.usable_mib")["MemTotal without 4096 MiB of reserved huge pages"] == 64237 - 4096
    assert facts(found)["memory.hugepages"].value == [
        {"page_kib": 2048, "pages": 2048, "reserved_mib": 4096, "free_mib": 4096},
        {"page_kib": 1048576, "pages": 0, "reserved_mib": 0, "free_mib": 0},
    ]


def test_swap_is_bounded_by_what_version_1_leaves_beside_memory() -> None:
    bounds = limits(probe_memory(context_of("el7_cgroup1")), "memory.swap_usable_mib")
    assert bounds == {
        "SwapTotal": 16383,
        "cgroup1 memsw.limit_in_bytes minus limit_in_bytes /pilots.slice/pilots-atlas.slice": 8192,
    }


def test_swap_is_bounded_by_version_2_of_its_own() -> None:
    bounds = limits(probe_memory(context_of("aarch64_neoverse")), "memory.swap_usable_mib")
    assert bounds == {"SwapTotal": 4095, "cgroup2 memory.swap.max /system.slice/pilot.service": 2048}
    assert limits(probe_memory(context_of("slurm_cgroup2")), "memory.swap_usable_mib")["SwapTotal"] == 0


def test_a_group_is_slowed_down_before_it_is_killed() -> None:
    bounds = limits(probe_memory(context_of("aarch64_neoverse")), "memory.usable_mib")
    assert bounds["cgroup2 memory.high /system.slice/pilot.service"] == min(bounds.values()) == 153600


def test_a_pod_has_its_own_memory_and_little_shared() -> None:
    found = list(probe_memory(context_of("kubernetes_pod")))
    assert limits(found, "memory.usable_mib")["cgroup2 memory.max /"] == 8192
    assert facts(found)["memory.shm_mib"].value == 64
    assert facts(found)["memory.shm_mib"].source == "statvfs /dev/shm"


def test_a_limit_of_the_address_space_is_told() -> None:
    known = facts(probe_memory(context_of("el7_cgroup1")))
    assert known["memory.limit_address_space_mib"].value == 65536
    absent = facts(probe_memory(context_of("bare_metal_el9")))["memory.limit_address_space_mib"]
    assert (absent.status, absent.detail) == (FactStatus.ABSENT, "it is unlimited")


@pytest.mark.parametrize(
    ("problem", "status"), [("ENOENT: No such file", FactStatus.ABSENT), ("EACCES: no", FactStatus.UNKNOWN)]
)
def test_shared_memory_that_cannot_be_asked_says_why(tmp_path: Path, problem: str, status: FactStatus) -> None:
    context = written_node(tmp_path / "node", {}, {}, {"/proc/meminfo": "MemTotal: 4096 kB\n"})
    answer = {"value": None, "problem": problem, "hung": False, "stuck": False, "recorded": True}
    entry = {"key": ["test", "statvfs /dev/shm"], "answer": answer}
    (tmp_path / "node" / "answers" / "shm.json").write_text(json.dumps(entry))
    assert facts(probe_memory(context))["memory.shm_mib"].status is status


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
