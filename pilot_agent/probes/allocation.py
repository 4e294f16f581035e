"""What the batch system gave this job on this node: the one reader of batch variables and files for all probes.

Only what each system documents is read. A variable alone proves little, as batch systems pass on the submitter's
environment; so a system counts when its own job identifier is there, and HTCondor when its ad file is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pilot_agent.probes import slurm
from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import parse_integer

# Compiled when first used: most nodes have no file or variable in these forms.
_AD_LINE = r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*"
_AD_NUMBER = r"([0-9]{1,15})(?:\.[0-9]{1,15})?"
_MEMORY = r"([0-9]{1,15})([KMGTkmgt]?)[Bb]?"
_KIB = {"K": 1, "": 1 << 10, "M": 1 << 10, "G": 1 << 20, "T": 1 << 30}


@dataclass(frozen=True, slots=True)
class Bound:
    """What one variable or file allows of a resource."""

    number: int
    source: str


@dataclass(frozen=True, slots=True)
class Allocation:
    """What one batch system says of the job on this node; ``end_time`` in seconds since 1970, memory in MiB."""

    system: str
    job_id: str | None = None
    end_time: Bound | None = None
    scratch: str | None = None
    cores: tuple[Bound, ...] = ()
    memory_mib: tuple[Bound, ...] = ()


def read_allocations(node: Node, environment: Mapping[str, str]) -> tuple[Allocation, ...]:
    """Every batch system this job runs under, the innermost first; empty when there is none.

    HTCondor comes first: its ad file exists only while its slot does, and slots are made inside the jobs of other
    systems, never the other way round on a worker node.
    """
    readers = (_htcondor, _slurm, _pbs, _lsf, _sge)
    found = (reader(node, environment) for reader in readers)
    return tuple(allocation for allocation in found if allocation is not None)


def parse_ad(text: str) -> dict[str, str]:
    """The attributes of an ad in HTCondor's line form, names in lower case, values as written."""
    matches = (re.fullmatch(_AD_LINE, line) for line in text.splitlines())
    return {match[1].lower(): match[2] for match in matches if match}


def parse_memory_mib(text: str) -> int | None:
    """MiB from a number with an optional unit K, M, G or T; plain numbers are MiB (sbatch(1), ``--mem``)."""
    match = re.fullmatch(_MEMORY, text.strip())
    return int(match[1]) * _KIB[match[2].upper()] // 1024 if match else None


def _htcondor(node: Node, environment: Mapping[str, str]) -> Allocation | None:
    machine = _read_ad(node, environment, "_CONDOR_MACHINE_AD")
    job = _read_ad(node, environment, "_CONDOR_JOB_AD")
    if not machine and not job:
        return None
    cluster, process = _ad_number(job, "clusterid"), _ad_number(job, "procid")
    cores, memory = _ad_number(machine, "cpus"), _ad_number(machine, "memory")
    return Allocation(
        system="htcondor",
        job_id=None if cluster is None else f"{cluster}.{process or 0}",
        scratch=environment.get("_CONDOR_SCRATCH_DIR") or None,
        cores=_bounds((cores, "HTCondor machine ad Cpus")),
        memory_mib=_bounds((memory, "HTCondor machine ad Memory")),
    )


def _read_ad(node: Node, environment: Mapping[str, str], variable: str) -> dict[str, str]:
    path = environment.get(variable, "")
    return parse_ad(node.read(path) or "") if path.startswith("/") else {}


def _ad_number(ad: Mapping[str, str], name: str) -> int | None:
    match = re.fullmatch(_AD_NUMBER, ad.get(name, ""))
    return int(match[1]) if match else None


def _slurm(node: Node, environment: Mapping[str, str]) -> Allocation | None:
    job_id = environment.get("SLURM_JOB_ID") or environment.get("SLURM_JOBID")
    if not job_id:
        return None
    on_node = parse_integer(environment.get("SLURM_CPUS_ON_NODE"))
    per_node = _slurm_job_cores(environment)
    cores = _bounds((on_node, "SLURM_CPUS_ON_NODE"), (per_node, "SLURM_JOB_CPUS_PER_NODE"))
    granted = min((bound.number for bound in cores), default=None)
    per_cpu = parse_memory_mib(environment.get("SLURM_MEM_PER_CPU", ""))
    end = parse_integer(environment.get("SLURM_JOB_END_TIME"))
    return Allocation(
        system="slurm",
        job_id=job_id,
        end_time=Bound(end, "SLURM_JOB_END_TIME") if end else None,
        scratch=environment.get("SLURM_TMPDIR") or environment.get("TMPDIR") or None,
        cores=cores,
        memory_mib=_bounds(
            (parse_memory_mib(environment.get("SLURM_MEM_PER_NODE", "")), "SLURM_MEM_PER_NODE"),
            (
                per_cpu * granted if per_cpu is not None and granted is not None else None,
                f"SLURM_MEM_PER_CPU x {granted} cores",
            ),
        ),
    )


def _slurm_job_cores(environment: Mapping[str, str]) -> int | None:
    """The job's cores on this node: by the node's place in the host list, else by its number, else the smallest."""
    counts = environment.get("SLURM_JOB_CPUS_PER_NODE", "")
    hosts = slurm.expand_hosts(environment.get("SLURM_JOB_NODELIST") or environment.get("SLURM_NODELIST") or "")
    name = environment.get("SLURMD_NODENAME")
    if hosts and name in hosts:
        return slurm.parse_counts(counts, hosts.index(name))
    # SLURM_NODEID counts the nodes of the step; it is the job's own numbering only while the step has all of them.
    index = parse_integer(environment.get("SLURM_NODEID"))
    if index is not None and environment.get("SLURM_STEP_NUM_NODES") in (None, environment.get("SLURM_JOB_NUM_NODES")):
        return slurm.parse_counts(counts, index)
    return slurm.smallest_count(counts)


def _pbs(node: Node, environment: Mapping[str, str]) -> Allocation | None:
    job_id = environment.get("PBS_JOBID")
    if not job_id:
        return None
    one_node = environment.get("PBS_NUM_NODES") == "1"
    cores = _bounds(
        (parse_integer(environment.get("PBS_NUM_PPN")), "PBS_NUM_PPN"),
        (parse_integer(environment.get("PBS_NP")) if one_node else None, "PBS_NP"),
        (parse_integer(environment.get("NCPUS")), "NCPUS"),
    )
    if not cores:
        # One line per core with Torque, one per process with PBS Pro, where NCPUS is set: so only without others.
        cores = _bounds((_lines_of_this_host(node, environment.get("PBS_NODEFILE", "")), "PBS_NODEFILE"))
    return Allocation(
        system="pbs",
        job_id=job_id,
        scratch=environment.get("TMPDIR") or environment.get("PBS_JOBDIR") or None,
        cores=cores,
    )


def _lines_of_this_host(node: Node, path: str) -> int | None:
    host = _host_name(node)
    lines = (node.read(path) or "").split() if path.startswith("/") else []
    return sum(1 for line in lines if _short(line) == host) or None


def _lsf(node: Node, environment: Mapping[str, str]) -> Allocation | None:
    job_id = environment.get("LSB_JOBID")
    if not job_id:
        return None
    words = environment.get("LSB_MCPU_HOSTS", "").split()
    slots = {_short(host): parse_integer(number) for host, number in zip(words[::2], words[1::2], strict=False)}
    total = parse_integer(environment.get("LSB_DJOB_NUMPROC")) if len(slots) <= 1 else None
    return Allocation(
        system="lsf",
        job_id=job_id,
        scratch=environment.get("TMPDIR") or None,
        cores=_bounds((slots.get(_host_name(node)), "LSB_MCPU_HOSTS"), (total, "LSB_DJOB_NUMPROC")),
    )


def _sge(node: Node, environment: Mapping[str, str]) -> Allocation | None:
    job_id = environment.get("JOB_ID")
    # JOB_ID is a name that anything may set; Grid Engine sets its own beside it.
    if not job_id or not any(environment.get(name) for name in ("SGE_ROOT", "SGE_CELL", "SGE_TASK_ID")):
        return None
    one_host = environment.get("NHOSTS", "1") == "1"
    total = parse_integer(environment.get("NSLOTS")) if one_host else None
    return Allocation(
        system="sge",
        job_id=job_id,
        scratch=environment.get("TMPDIR") or None,
        cores=_bounds((total, "NSLOTS"), (_sge_slots_here(node, environment.get("PE_HOSTFILE", "")), "PE_HOSTFILE")),
    )


def _sge_slots_here(node: Node, path: str) -> int | None:
    """The slots on this host in Grid Engine's host file: ``host slots queue processors`` per line, added up."""
    host = _host_name(node)
    lines = (node.read(path) or "").splitlines() if path.startswith("/") else []
    fields = [line.split() for line in lines]
    numbers = [parse_integer(words[1]) for words in fields if len(words) > 1 and _short(words[0]) == host]
    return sum(number or 0 for number in numbers) or None


def _host_name(node: Node) -> str:
    return _short(node.read_line("/proc/sys/kernel/hostname") or "")


def _short(host: str) -> str:
    return host.partition(".")[0].lower()


def _bounds(*found: tuple[int | None, str]) -> tuple[Bound, ...]:
    """The bounds that exist; zero means "all of the node" to every batch system, so it is none."""
    return tuple(Bound(number, source) for number, source in found if number)


def batch_bounds(allocations: tuple[Allocation, ...], resource: str) -> Iterator[Bound]:
    """What all batch systems around this job allow of ``cores`` or ``memory_mib``."""
    for allocation in allocations:
        yield from allocation.cores if resource == "cores" else allocation.memory_mib
