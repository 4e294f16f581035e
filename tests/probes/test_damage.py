"""Every parser and every probe is fed with damaged files: unknown facts, never an exception."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilot_agent.codec import to_json
from pilot_agent.hookspecs import Context
from pilot_agent.probes import answers, mount_flags, mountinfo, parsing
from pilot_agent.probes.batch import (
    ancestry,
    batch_commands,
    batch_job,
    htcondor,
    lsf,
    pbs,
    sge,
    slurm_controller,
    slurm_lists,
)
from pilot_agent.probes.batch.batch import probe_batch
from pilot_agent.probes.cvmfs import cvmfs_client, cvmfs_configuration
from pilot_agent.probes.cvmfs.cvmfs import probe_cvmfs
from pilot_agent.probes.disk import quota
from pilot_agent.probes.disk.disk import probe_disk
from pilot_agent.probes.gpu import amd, device, device_nodes, nvidia
from pilot_agent.probes.gpu.gpu import probe_gpu
from pilot_agent.probes.kernel import fuse, fuse_helpers, fuse_kernels, refusals, subids, userns
from pilot_agent.probes.kernel.fuse import probe_fuse
from pilot_agent.probes.kernel.userns import probe_userns
from pilot_agent.probes.network import heads, interfaces, targets
from pilot_agent.probes.network.clock import parse_date, probe_clock
from pilot_agent.probes.network.connecting import Failed
from pilot_agent.probes.network.network import probe_network
from pilot_agent.probes.resources import cgroup, cpu, memory, topology
from pilot_agent.probes.resources.control_groups import probe_cgroup
from pilot_agent.probes.resources.cpu import probe_cpu
from pilot_agent.probes.resources.memory import probe_memory
from pilot_agent.probes.software import apptainer, apptainer_config
from pilot_agent.probes.software.software import probe_software
from pilot_agent.probes.system import limits, microarch, osinfo, regional, security
from pilot_agent.probes.system.osinfo import probe_os
from tests.probes.trees import NAMES, NODES, context_of


def damaged_head(content: bytes) -> None:
    """A head in HTTP that is none is refused."""
    with contextlib.suppress(Failed):
        heads.parse_head(content)


PARSERS: tuple[Callable[[str], Any], ...] = (
    parsing.parse_integer,
    parsing.parse_cpu_list,
    mountinfo.parse_mountinfo,
    cgroup.parse_memberships,
    cgroup.parse_cpu_max,
    cpu.parse_cpuinfo,
    cpu.parse_allowed,
    topology.parse_node_memory,
    lambda text: microarch.arm_version(text.split()),
    memory.parse_meminfo,
    memory.parse_address_space,
    lambda text: memory.parse_size_option((text,)),
    cvmfs_client.parse_client_version,
    cvmfs_client.parse_breadcrumb,
    cvmfs_configuration.parse_assignments,
    cvmfs_configuration.parse_fstab,
    lambda text: cvmfs_configuration.split_repositories(text, text),
    lambda text: quota.has_quota((text,)),
    osinfo.parse_os_release,
    osinfo.parse_red_hat_release,
    limits.parse_limits,
    security.parse_selinux_config,
    security.parse_profile,
    regional.zone_of_variable,
    regional.is_utf8,
    lambda text: regional.parse_zone_file(b"TZif" + text.encode("utf-8", "replace") + b"\n"),
    apptainer.parse_version,
    lambda text: apptainer_config.hindrances(apptainer_config.parse_config(text), setuid=True),
    lambda text: osinfo.parse_glibc(text.encode("utf-8", "replace")),
    htcondor.parse_ad,
    ancestry.parse_stat,
    batch_commands.parse_ctime,
    batch_job.parse_memory_mib,
    batch_job.parse_duration_seconds,
    lsf.parse_slots,
    pbs.parse_size_mib,
    lambda text: pbs.parse_qstat(answers.Command(("qstat",), 0, text)),
    sge.parse_host_file,
    lambda text: slurm_controller.parse_pairs(answers.Command(("scontrol",), 0, text)),
    lambda text: slurm_controller.parse_drains(answers.Command(("scontrol",), 0, text)),
    lambda text: slurm_lists.parse_counts(text, 1),
    slurm_lists.smallest_count,
    slurm_lists.expand_hosts,
    fuse.parse_filesystems,
    fuse_helpers.parse_version,
    fuse_kernels.mounts_for_all,
    mount_flags.parse_flags,
    refusals.parse_status,
    lambda text: subids.parse_subids(text, ("1", "")),
    lambda text: subids.account_name(text, 1),
    userns.parse_map,
    nvidia.parse_driver_version,
    device.pci_address,
    lambda text: device_nodes.is_allowed(text, "195:0"),
    amd.parse_properties,
    amd.parse_smi,
    interfaces.parse_routes,
    interfaces.parse_routes6,
    interfaces.parse_resolver,
    interfaces.scope_of,
    lambda text: interfaces.parse_hosts(text, "n1"),
    lambda text: targets.parse_target(text, ""),
    lambda text: targets.parse_proxy(text, ""),
    targets.parse_collector,
    targets.parse_cvmfs_proxies,
    lambda text: list(targets.split_cvmfs_proxies(text)),
    parse_date,
    lambda text: damaged_head(text.encode("utf-8", "replace")),
)
PROBES = (
    probe_cpu,
    probe_cgroup,
    probe_memory,
    probe_batch,
    probe_os,
    probe_software,
    probe_userns,
    probe_fuse,
    probe_gpu,
    probe_network,
    probe_clock,
    probe_cvmfs,
    probe_disk,
)

# Text near the formats: their own words and marks in any order, beside arbitrary characters.
WORDS = st.sampled_from(
    (
        *"[]()=:,-/\"'\\\0²٣",
        *("processor : ", "\n\n", "cpu", "18446744073709551616", "0-3", "x2)", "\\040", " kB", "memory", "/..", "n["),
        *(
            "Max open files  ",
            " = yes",
            "limit container paths =",
            "SELINUX=enforcing",
            "version 1.4.5",
            "CET-1",
            "NULL",
        ),
        *("max", "Max address space", "size=", "Cpus_allowed_list:", "MemTotal:", "cgroup2", "1-3]", "release"),
        *("http://", "HTTP/1.1", "CVMFS_HTTP_PROXY=", "nameserver", "search", "@", "n1.org", "00000000", "?", "GMT"),
        *("Linux", "GNU C Library", "version", " - ", "0:3", "\n", " ", "1", "0"),
    )
)
DAMAGED = st.one_of(
    st.text(),
    st.lists(st.one_of(WORDS, st.text(max_size=5)), max_size=40).map(" ".join),
    st.lists(WORDS, max_size=40).map("".join),
)
VARIABLES = (
    *("SLURM_JOB_ID", "SLURM_CPUS_ON_NODE", "SLURM_JOB_CPUS_PER_NODE", "SLURM_JOB_NODELIST", "SLURMD_NODENAME"),
    *("SLURM_NODEID", "SLURM_MEM_PER_CPU", "SLURM_MEM_PER_NODE", "SLURM_JOB_END_TIME", "PBS_JOBID", "PBS_NUM_PPN"),
    *("NCPUS", "PBS_NODEFILE", "LSB_JOBID", "LSB_MCPU_HOSTS", "LSB_DJOB_NUMPROC", "JOB_ID", "SGE_ROOT", "NSLOTS"),
    *("SLURM_HET_SIZE", "SLURM_JOB_NODELIST_HET_GROUP_0", "SLURM_TASKS_PER_NODE", "SLURM_RESTART_COUNT", "RESTARTED"),
    *("SLURM_JOB_GPUS", "SLURM_GPUS_ON_NODE", "SLURM_MEM_PER_GPU", "PBS_WALLTIME", "PBS_GPUFILE", "LSB_JOBINDEX"),
    *("LSB_MAX_MEM_RUSAGE", "SGE_TASK_ID", "SGE_BINDING", "SGE_HGR_gpu", "SGE_JOB_SPOOL_DIR", "JOBFEATURES"),
    *("NHOSTS", "PE_HOSTFILE", "_CONDOR_MACHINE_AD", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "PATH", "TMPDIR"),
)


@pytest.mark.parametrize("parser", PARSERS)
def test_a_parser_takes_any_text(parser: Callable[[str], Any]) -> None:
    @settings(max_examples=150, deadline=None)
    @given(DAMAGED)
    def parse(text: str) -> None:
        parser(text)

    parse()


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(VARIABLES), DAMAGED))
def test_probes_take_any_environment(environment: dict[str, str]) -> None:
    context = context_of("slurm_cgroup2")
    damaged = Context(root=context.root, environment=environment)
    for probe in (probe_cpu, probe_memory, probe_batch, probe_gpu, probe_fuse):
        json.dumps(to_json(list(probe(damaged))))


@pytest.fixture(scope="module")
def nodes() -> Iterator[Path]:
    """A copy of all nodes that a test may damage."""
    directory = Path(tempfile.mkdtemp(prefix="nodes-"))
    shutil.copytree(NODES, directory / "nodes", symlinks=True)
    yield directory / "nodes"
    shutil.rmtree(directory)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_probes_take_any_damage_to_a_nodes_files(nodes: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(NAMES))
    files = sorted(path for path in (nodes / name / "root").rglob("*") if path.is_file())
    victims = data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=6, unique=True))
    kept = {victim: victim.read_bytes() for victim in victims}
    try:
        for victim, content in kept.items():
            cut = data.draw(st.integers(0, len(content)))
            victim.write_bytes(content[:cut] + data.draw(st.binary(max_size=60)) + content[cut + 7 :])
        recorded = json.loads((nodes / name / "environment.json").read_text())
        context = Context(root=str(nodes / name), environment=recorded)
        for probe in PROBES:
            json.dumps(to_json(list(probe(context))))
    finally:
        for victim, content in kept.items():
            victim.write_bytes(content)
