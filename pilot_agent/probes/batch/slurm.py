"""Slurm: the job's part of this node, from its variables (sbatch(1) and srun(1), OUTPUT ENVIRONMENT VARIABLES).

``SLURM_CPUS_ON_NODE`` counts for the step, ``SLURM_JOB_CPUS_PER_NODE`` for the job: both are kept, the smaller counts.
Where several tasks of a step of srun(1) run on this node each has an equal share of what they have together.
With heterogeneous jobs every component has its own variables, with ``_HET_GROUP_N`` after their names.
"""

from __future__ import annotations

from collections.abc import Mapping

from pilot_agent.probes.batch.ancestry import vouched_for
from pilot_agent.probes.batch.batch_job import (
    Allocation,
    Bound,
    Disbelieved,
    bound,
    bounds,
    host_name,
    parse_memory_mib,
    place_of,
    short_name,
    smallest,
    unique,
    unread,
)
from pilot_agent.probes.batch.slurm_lists import expand_hosts, parse_counts, smallest_count
from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import parse_integer

DAEMONS = ("slurmstepd",)
GROUPS = ("/slurm", "slurmstepd.scope")
_MOST_COMPONENTS = 256


def read_slurm(node: Node, environment: Mapping[str, str]) -> Allocation | Disbelieved | None:
    """The job's part of this node; nothing is asked of the controller."""
    job_id = environment.get("SLURM_JOB_ID") or environment.get("SLURM_JOBID")
    if not job_id:
        return None
    contradiction = _contradiction(node, environment)
    if contradiction and not vouched_for(node, GROUPS, DAEMONS):
        return Disbelieved("slurm", f"SLURM_JOB_ID is {job_id}, but {contradiction}")
    name = node_name(node, environment)
    suffix = _component(environment, name)
    hosts = _hosts(environment, suffix)
    cores = _cores(environment, suffix, name, hosts)
    tasks = tasks_here(environment, name)
    gpus = environment.get("SLURM_JOB_GPUS") or environment.get("SLURM_STEP_GPUS")
    gpu_count = parse_integer(environment.get("SLURM_GPUS_ON_NODE"))
    devices = tuple(_device(part) for part in gpus.split(",") if part.strip()) if gpus else None
    start = parse_integer(environment.get("SLURM_JOB_START_TIME"))
    end = parse_integer(environment.get("SLURM_JOB_END_TIME"))
    return Allocation(
        system="slurm",
        job_id=job_id,
        job_note=_note(environment),
        start_time=Bound(start, "SLURM_JOB_START_TIME") if start else None,
        ends=bounds((end, "SLURM_JOB_END_TIME")),
        scratch=environment.get("SLURM_TMPDIR") or environment.get("TMPDIR") or None,
        cores=_shared(cores, tasks),
        memory_mib=_shared(_memory(environment, suffix, smallest(cores), gpu_count), tasks),
        nodes=_all_hosts(environment),
        node_index=place_of(name, _all_hosts(environment)),
        queue=environment.get(f"SLURM_JOB_PARTITION{suffix}") or environment.get("SLURM_JOB_PARTITION") or None,
        account=environment.get("SLURM_JOB_ACCOUNT") or None,
        job_name=environment.get("SLURM_JOB_NAME") or None,
        user=environment.get("SLURM_JOB_USER") or None,
        restarts=_restarts(environment),
        gpus=devices,
        gpu_count=bound(gpu_count, "SLURM_GPUS_ON_NODE")
        or (None if devices is None else Bound(len(devices), "SLURM_JOB_GPUS")),
        unread=unread(*((environment.get(name), name) for name in ("SLURM_JOB_START_TIME", "SLURM_JOB_END_TIME"))),
    )


def node_name(node: Node, environment: Mapping[str, str]) -> str:
    """Slurm's name for this node, which need not be the host's; the host's own where Slurm gave none."""
    return environment.get("SLURMD_NODENAME") or host_name(node)


def _contradiction(node: Node, environment: Mapping[str, str]) -> str:
    """Why these variables seem to be of another machine: slurmd names the node in the environment of what it starts,
    and salloc(1), which does not, may run on a machine outside of the allocation."""
    host = host_name(node)
    named = environment.get("SLURMD_NODENAME")
    hosts = _all_hosts(environment)
    if not host or place_of(host, hosts) is not None:
        return ""
    if named and short_name(named) != host:
        return f"its SLURMD_NODENAME is {named}, and this node is {host}"
    if not named and hosts:
        return f"its SLURM_JOB_NODELIST does not include this node, {host}"
    return ""


def _all_hosts(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The nodes of the job, those of all components of a heterogeneous one."""
    found = list(_hosts(environment, ""))
    for suffix in _suffixes(environment):
        found += _hosts(environment, suffix)
    return unique(found)


def _hosts(environment: Mapping[str, str], suffix: str) -> tuple[str, ...]:
    text = environment.get(f"SLURM_JOB_NODELIST{suffix}") or environment.get(f"SLURM_NODELIST{suffix}") or ""
    return expand_hosts(text) or ()


def _suffixes(environment: Mapping[str, str]) -> list[str]:
    """What the names of the components' variables end with; releases before 20.02 wrote PACK for HET."""
    size = parse_integer(environment.get("SLURM_HET_SIZE") or environment.get("SLURM_PACK_SIZE")) or 0
    kind = "HET" if environment.get("SLURM_HET_SIZE") else "PACK"
    return [f"_{kind}_GROUP_{number}" for number in range(min(size, _MOST_COMPONENTS))]


def _component(environment: Mapping[str, str], name: str) -> str:
    """The suffix of the component that has this node; empty for the only or the first one."""
    if place_of(name, _hosts(environment, "")) is not None:
        return ""
    own = (suffix for suffix in _suffixes(environment) if place_of(name, _hosts(environment, suffix)) is not None)
    return next(own, "")


def _cores(environment: Mapping[str, str], suffix: str, name: str, hosts: tuple[str, ...]) -> tuple[Bound, ...]:
    per_node = _on_this_node(environment, f"SLURM_JOB_CPUS_PER_NODE{suffix}", name, hosts)
    found = bounds(
        # It is set for the batch step and for steps of srun(1), and in both counts for the node they run on.
        (parse_integer(environment.get("SLURM_CPUS_ON_NODE")), "SLURM_CPUS_ON_NODE"),
        (per_node, f"SLURM_JOB_CPUS_PER_NODE{suffix}"),
    )
    if found:
        return found
    # Tasks say how many processes are started, not how many cores are allocated: only where nothing else does.
    tasks = _on_this_node(environment, f"SLURM_TASKS_PER_NODE{suffix}", name, hosts)
    each = parse_integer(environment.get("SLURM_CPUS_PER_TASK")) or 1
    return bounds((None if tasks is None else tasks * each, f"SLURM_TASKS_PER_NODE x {each} cores"))


def tasks_here(environment: Mapping[str, str], name: str) -> int:
    """How many tasks of this step run on the node that Slurm calls ``name``: 1 outside of steps of srun(1)."""
    counts = environment.get("SLURM_STEP_TASKS_PER_NODE", "")
    hosts = expand_hosts(environment.get("SLURM_STEP_NODELIST", "")) or ()
    place = place_of(name, hosts)
    if place is None:
        place = parse_integer(environment.get("SLURM_NODEID"))  # of the step's nodes
    number = parse_counts(counts, place) if place is not None else smallest_count(counts)
    return max(1, number or 1)


def _shared(found: tuple[Bound, ...], tasks: int) -> tuple[Bound, ...]:
    """What one of several tasks on this node has of their common bounds."""
    if tasks == 1:
        return found
    return tuple(Bound(max(1, int(one.number // tasks)), f"{one.source} / {tasks} tasks") for one in found)


def _on_this_node(environment: Mapping[str, str], variable: str, name: str, hosts: tuple[str, ...]) -> int | None:
    """This node's number in a list, by its place in the host list, else by its number, else the smallest."""
    counts = environment.get(variable, "")
    place = place_of(name, hosts)
    if place is not None:
        return parse_counts(counts, place)
    # SLURM_NODEID counts the nodes of the step; it is the job's own numbering only while the step has all of them.
    index = parse_integer(environment.get("SLURM_NODEID"))
    if index is not None and environment.get("SLURM_STEP_NUM_NODES") in (None, environment.get("SLURM_JOB_NUM_NODES")):
        return parse_counts(counts, index)
    return smallest_count(counts)


def _memory(environment: Mapping[str, str], suffix: str, cores: int | None, gpu_count: int | None) -> tuple[Bound, ...]:
    def given(variable: str) -> int | None:
        return parse_memory_mib(environment.get(f"{variable}{suffix}") or environment.get(variable, ""))

    per_core, per_gpu = given("SLURM_MEM_PER_CPU"), given("SLURM_MEM_PER_GPU")
    return bounds(
        (given("SLURM_MEM_PER_NODE"), "SLURM_MEM_PER_NODE"),
        (per_core * cores if per_core and cores else None, f"SLURM_MEM_PER_CPU x {cores} cores"),
        (per_gpu * gpu_count if per_gpu and gpu_count else None, f"SLURM_MEM_PER_GPU x {gpu_count} GPUs"),
    )


def _restarts(environment: Mapping[str, str]) -> Bound | None:
    """How often the job was started again; Slurm sets the variable from the first restart on, so none is 0."""
    number = parse_integer(environment.get("SLURM_RESTART_COUNT", "0"))
    return bound(number, "SLURM_RESTART_COUNT")


def _device(text: str) -> str:
    """A device without the kind that older releases put before its number (``gpu:2``)."""
    return text.strip().rpartition(":")[2]


def _note(environment: Mapping[str, str]) -> str:
    """What the job is part of, for people."""
    notes = []
    array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    if array and task:
        notes.append(f"task {task} of array {array}")
    components = len(_suffixes(environment))
    if components:
        notes.append(f"a heterogeneous job of {components} components")
    step = environment.get("SLURM_STEP_ID")
    if step:
        notes.append(f"step {step}")
    return ", ".join(notes)
