"""The batch system that runs this pilot, its name for the job, and all that it says of the job on this node."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from pilot_agent.hookspecs import Context
from pilot_agent.model import Fact, Finding, Limit
from pilot_agent.probes.batch.allocation import Survey, survey
from pilot_agent.probes.batch.batch_job import Allocation, Bound
from pilot_agent.probes.node import Node
from pilot_agent.probes.resources.site_cpus import site_cpus

if TYPE_CHECKING:
    from pilot_agent.probes.batch.machine_job_features import Features

LOOKED_FOR = "no variable of Slurm, PBS, Grid Engine or LSF and no HTCondor ad file was found"
NO_BATCH = "no batch system runs this pilot"
# What starts the job's first process, where the system tells no time of its start.
_STARTERS = {"pbs": ("pbs_mom",), "lsf": ("res", "sbatchd"), "sge": ("sge_shepherd",)}
# What batch systems' own programs are asked for: why they do not answer is told with these.
_ASKED = frozenset({"start_time", "end_time", "walltime_seconds", "draining"})
# What the other probes bound with the same allocations; only what this probe alone learned is added to it.
_RESOURCES = {"cpu.usable": ("cores", "cores"), "memory.usable_mib": ("memory_mib", "MiB")}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Job:
    """All that is known of the job: ``allocations`` beginning with the innermost batch system."""

    allocations: tuple[Allocation, ...]
    features: Features | None
    disbelieved: str = ""

    @property
    def systems(self) -> list[str]:
        """The batch systems' names, the innermost first; empty outside of one."""
        return [each.system for each in self.allocations if each.names_job]

    def first(self, pick: Callable[[Allocation], _T | None]) -> tuple[_T, Allocation] | None:
        """What the innermost system that says something says, and that system."""
        said = ((pick(each), each) for each in self.allocations)
        return next(((value, each) for value, each in said if value is not None), None)


def probe_batch(context: Context) -> Iterator[Finding]:
    """``batch.system`` (``none`` outside of one), ``job_id``, ``job_name``, ``user``, ``queue``, ``account``; ``nodes``
    and ``node_index``; ``cores``, ``memory_mib``, ``disk_mib`` with every source; ``gpus`` and ``gpu_count``;
    ``scratch``; ``start_time``, ``end_time`` (seconds since 1970), ``walltime_seconds``; ``restarts``; ``draining``;
    ``features``. Where systems are nested the innermost names the job, and the smallest number and earliest end count.

    What no other probe learns (from an address, or a batch system's own program) bounds ``cpu.usable`` and
    ``memory.usable_mib`` as well.
    """
    node = Node.of(context)
    found = survey(node, context.environment)
    job = _ask_all(node, context.environment, found)
    yield _system(job)
    yield from _names(job)
    yield from _place(job)
    yield from _quantities(job)
    yield from _gpus(job)
    yield from _times(job)
    yield _draining(job, node)
    yield _features(job.features, context.environment)
    yield from _limits(found, job, whole_node=not site_cpus(context.config).batch)


def _ask_all(node: Node, environment: Mapping[str, str], found: Survey) -> Job:
    """What files and variables say, with what only programs and addresses tell."""
    allocations = tuple(_ask(node, environment, each) for each in found.allocations if each.names_job)
    disbelieved = "; ".join(f"{each.reason}: not believed" for each in found.disbelieved)
    if found.features is None:
        return Job(allocations, None, disbelieved)
    from pilot_agent.probes.batch.machine_job_features import features_allocation, fetch_features, merged

    features = merged(found.features, fetch_features(node, environment))
    described = features_allocation(features)
    return Job((*allocations, described) if described else allocations, features, disbelieved)


def _ask(node: Node, environment: Mapping[str, str], found: Allocation) -> Allocation:
    if found.system == "slurm":
        from pilot_agent.probes.batch.slurm_controller import ask_controller

        found = ask_controller(node, environment, found)
    if found.system == "pbs":
        from pilot_agent.probes.batch.pbs import ask_server

        found = ask_server(node, environment, found)
    if found.system == "lsf":
        from pilot_agent.probes.batch.lsf import ask_batch

        found = ask_batch(node, environment, found)
    if found.system == "sge":
        from pilot_agent.probes.batch.sge import ask_master

        found = ask_master(node, environment, found)
    return found if found.start_time is not None else _started(node, found)


def _started(node: Node, found: Allocation) -> Allocation:
    """The allocation with the start of the job's first process, for what its system does not tell."""
    from pilot_agent.probes.batch.ancestry import oldest_of_account, started_by

    starters = _STARTERS.get(found.system, ())
    start = started_by(node, starters) if starters else None
    if start is not None:
        return replace(found, start_time=Bound(start, f"start of the process below {starters[0]}"))
    start = oldest_of_account(node)
    source = "start of the oldest process of this account above the pilot"
    return found if start is None else replace(found, start_time=Bound(start, source))


def _system(job: Job) -> Fact:
    if not job.systems:
        return Fact("batch.system", "none", source="environment", detail=job.disbelieved or LOOKED_FOR)
    inner, *outer = job.systems
    notes = (f"inside {', '.join(outer)}" if outer else "", job.disbelieved)
    return Fact("batch.system", inner, source="environment", detail="; ".join(note for note in notes if note))


def _missing(job: Job, name: str, what: str) -> Fact:
    """Nobody says it: absent outside of a batch system, else unknown."""
    if not job.systems:
        return Fact.absent(f"batch.{name}", NO_BATCH)
    notes = [f"{' and '.join(job.systems)} did not say {what}"]
    if name in _ASKED:
        notes += [each.problem for each in job.allocations if each.problem]
    if name == "end_time":
        notes += [note for each in job.allocations for note in each.unread]
        notes.append("the factory sets time.walltime_seconds to the queue's limit")
    return Fact.unknown(f"batch.{name}", "; ".join(notes), source=job.systems[0])


def _names(job: Job) -> Iterator[Fact]:
    said: tuple[tuple[str, str, Callable[[Allocation], str | None]], ...] = (
        ("job_id", "its name for the job", lambda each: each.job_id),
        ("job_name", "what the job is called", lambda each: each.job_name),
        ("user", "whose job it is", lambda each: each.user),
        ("queue", "the job's queue or partition", lambda each: each.queue),
        ("account", "the job's account", lambda each: each.account),
    )
    for name, what, pick in said:
        found = job.first(pick)
        if found is None:
            yield _missing(job, name, what)
        else:
            detail = found[1].job_note if name == "job_id" else ""
            yield Fact(f"batch.{name}", found[0], source=found[1].system, detail=detail)
    scratch = job.first(lambda each: each.scratch)
    if scratch is not None:
        yield Fact("batch.scratch", scratch[0], source=scratch[1].system)
    else:
        inner = job.systems[0] if job.systems else ""
        yield Fact.absent("batch.scratch", f"{inner} gave no scratch directory" if inner else NO_BATCH, source=inner)


def _place(job: Job) -> Iterator[Fact]:
    found = job.first(lambda each: each.nodes or None)
    if found is None:
        yield _missing(job, "nodes", "which hosts the job has")
        yield _missing(job, "node_index", "which of its hosts this one is")
        return
    nodes, system = found
    yield Fact("batch.nodes", list(nodes), source=system.system)
    if system.node_index is not None:
        yield Fact("batch.node_index", system.node_index, source=system.system)
    else:
        yield Fact.unknown("batch.node_index", "this host is not among the job's hosts", source=system.system)


def _quantities(job: Job) -> Iterator[Fact]:
    picks: tuple[tuple[str, str, str, Callable[[Allocation], tuple[Bound, ...]]], ...] = (
        ("cores", "cores", "cores", lambda each: each.cores),
        ("memory_mib", "MiB", "memory", lambda each: each.memory_mib),
        ("disk_mib", "MiB", "disk", lambda each: each.disk_mib),
    )
    for name, unit, what, pick in picks:
        found = [bound for each in job.allocations for bound in pick(each)]
        if not found:
            yield _missing(job, name, f"how much of the node's {what} the job has")
            continue
        least = min(found, key=lambda bound: bound.number)
        limits = tuple(Limit(f"batch.{name}", bound.number, unit, bound.source) for bound in found)
        yield Fact(f"batch.{name}", least.number, unit, source=least.source, limits=limits)


def _gpus(job: Job) -> Iterator[Fact]:
    count = job.first(lambda each: each.gpu_count)
    devices = job.first(lambda each: each.gpus)
    none = count is not None and count[0].number == 0
    if devices is not None or (none and count):
        source = devices[1].system if devices else count[0].source if count else ""
        yield Fact("batch.gpus", list(devices[0]) if devices and not none else [], source=source)
    else:
        yield _missing(job, "gpus", "which GPUs the job has")
    if count is not None:
        yield Fact("batch.gpu_count", count[0].number, "GPUs", source=count[0].source)
    elif devices is not None:
        yield Fact("batch.gpu_count", len(devices[0]), "GPUs", source=devices[1].system)
    else:
        yield _missing(job, "gpu_count", "how many GPUs the job has")


def _times(job: Job) -> Iterator[Fact]:
    start = job.first(lambda each: each.start_time)
    if start is not None:
        yield Fact("batch.start_time", start[0].number, "s", source=start[0].source)
    else:
        yield _missing(job, "start_time", "when the job began")
    ends = [end for each in job.allocations for end in _ends(each)]
    if ends:
        end = min(ends, key=lambda bound: bound.number)
        limits = tuple(Limit("batch.end_time", each.number, "s", each.source) for each in ends)
        unread = "; ".join(note for each in job.allocations for note in each.unread)
        yield Fact("batch.end_time", end.number, "s", source=end.source, detail=unread, limits=limits)
    else:
        yield _missing(job, "end_time", "when the job ends")
    walltime = job.first(_walltime)
    if walltime is not None:
        yield Fact("batch.walltime_seconds", walltime[0].number, "s", source=walltime[0].source)
    else:
        yield _missing(job, "walltime_seconds", "how long the job may take")
    restarts = job.first(lambda each: each.restarts)
    if restarts is not None:
        yield Fact("batch.restarts", restarts[0].number, source=restarts[0].source)
    else:
        yield _missing(job, "restarts", "whether the job was started before")


def _ends(found: Allocation) -> Iterator[Bound]:
    yield from found.ends
    start, walltime = found.start_time, found.walltime_seconds
    if start and walltime:
        yield Bound(start.number + walltime.number, f"{start.source} + {walltime.source}")


def _walltime(found: Allocation) -> Bound | None:
    if found.walltime_seconds:
        return found.walltime_seconds
    start, end = found.start_time, min(found.ends, key=lambda each: each.number, default=None)
    if start and end and end.number > start.number:
        return Bound(end.number - start.number, f"{end.source} - {start.source}")
    return None


def _now(node: Node) -> float | None:
    answer = node.ask("time of the batch probe", time.time, here=True)
    number = isinstance(answer.value, int | float) and not isinstance(answer.value, bool)
    return float(answer.value) if number else None


def _draining(job: Job, node: Node) -> Fact:
    name = "batch.draining"
    announced = None
    if job.features is not None:
        from pilot_agent.probes.batch.machine_job_features import shuts_down

        announced = shuts_down(job.features, _now(node))
    systems = [(each.draining, each.system) for each in job.allocations if each.draining is not None]
    draining = next((system for drains, system in systems if drains), None)
    if announced and announced[0]:
        return Fact(name, True, source="mjf", detail=announced[1])
    if draining:
        return Fact(name, True, source=draining, detail=f"{draining} sends no further jobs to this node")
    if announced or systems:
        return Fact(name, False, source=systems[0][1] if systems else "mjf", detail=announced[1] if announced else "")
    return _missing(job, "draining", "whether this node drains")


def _features(features: Features | None, environment: Mapping[str, str]) -> Fact:
    name = "batch.features"
    if features is not None and features.told:
        from pilot_agent.probes.batch.machine_job_features import features_value

        return Fact(name, features_value(features), source=features.source, detail=features.problem)
    named = [variable for variable in ("MACHINEFEATURES", "JOBFEATURES") if environment.get(variable)]
    if not named:
        return Fact.absent(name, "neither MACHINEFEATURES nor JOBFEATURES is set")
    from pilot_agent.probes.redaction import redact

    places = ", ".join(f"${variable} ({redact(environment[variable])[:200]})" for variable in named)
    problem = features.problem if features is not None else ""
    return Fact.unknown(name, problem or f"{places} holds no feature that can be read")


def _limits(found: Survey, job: Job, *, whole_node: bool) -> Iterator[Limit]:
    """The bounds that this probe alone learned; those on cores do not count where the site gives the whole node."""
    for resource, (field, unit) in _RESOURCES.items():
        if whole_node and resource == "cpu.usable":
            continue
        seen = {bound.source for each in found.allocations for bound in getattr(each, field)}
        for each in job.allocations:
            for bound in getattr(each, field):
                if bound.source not in seen:
                    yield Limit(resource, bound.number, unit, bound.source)
