"""PBS: Torque, PBS Professional and OpenPBS.

Variables are those of qsub(1B): Torque sets ``PBS_NUM_PPN``, ``PBS_NUM_NODES``, ``PBS_NP``, ``PBS_WALLTIME``,
``PBS_NODENUM``, ``PBS_GPUFILE``; the others set ``NCPUS`` and ``PBS_JOBDIR``, and tell the walltime only by qstat(1B).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from pilot_agent.probes.answers import Command
from pilot_agent.probes.batch.ancestry import vouched_for
from pilot_agent.probes.batch.batch_commands import ask, parse_ctime, why_not
from pilot_agent.probes.batch.batch_job import (
    Allocation,
    Bound,
    Disbelieved,
    bound,
    bounds,
    host_name,
    parse_duration_seconds,
    place_of,
    short_name,
    unique,
    unread,
)
from pilot_agent.probes.batch.named_paths import missing, read_named
from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import parse_integer

DAEMONS = ("pbs_mom",)
GROUPS = ("/pbs_jobs", "/pbspro", "/pbs.service", "/pbs.slice", "/torque/")
_JOB_ID = r"[A-Za-z0-9_][A-Za-z0-9_.\[\]-]{0,199}"
_ATTRIBUTE = r" {4}([A-Za-z_.]{1,80}) = (.*)"
_SIZE = r"([0-9]{1,15})([kmgt]?)b?"
_SHIFTS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def read_pbs(node: Node, environment: Mapping[str, str]) -> Allocation | Disbelieved | None:
    """The job's part of this node, from variables, its node file and its GPU file."""
    job_id = environment.get("PBS_JOBID")
    if not job_id:
        return None
    file = environment.get("PBS_NODEFILE", "")
    lines = _lines(node, file)
    contradiction = _contradiction(node, file, lines)
    if contradiction and not vouched_for(node, GROUPS, DAEMONS):
        return Disbelieved("pbs", f"PBS_JOBID is {job_id}, but {contradiction}")
    hosts = unique(lines or [])
    walltime = bounds((parse_integer(environment.get("PBS_WALLTIME")), "PBS_WALLTIME"))
    gpus = _gpus_here(node, environment.get("PBS_GPUFILE", ""))
    return Allocation(
        system="pbs",
        job_id=job_id,
        walltime_seconds=walltime[0] if walltime else None,
        scratch=environment.get("TMPDIR") or environment.get("PBS_JOBDIR") or None,
        cores=_cores(node, environment, lines),
        nodes=hosts,
        node_index=_first_of(place_of(host_name(node), hosts), parse_integer(environment.get("PBS_NODENUM"))),
        queue=environment.get("PBS_QUEUE") or None,
        account=environment.get("PBS_ACCOUNT") or None,
        job_name=environment.get("PBS_JOBNAME") or None,
        user=environment.get("PBS_O_LOGNAME") or None,
        gpus=gpus,
        gpu_count=None if gpus is None else Bound(len(gpus), "PBS_GPUFILE"),
        unread=unread((environment.get("PBS_WALLTIME"), "PBS_WALLTIME")),
    )


def _lines(node: Node, path: str) -> list[str] | None:
    """The words of a file of host names; None when there is no such file."""
    text = read_named(node, path)
    return None if text is None else text.split()


def _contradiction(node: Node, file: str, lines: list[str] | None) -> str:
    """Why the node file shows that these variables are another machine's; empty when it does not."""
    host = host_name(node)
    if lines is None and missing(node, file):
        return f"its PBS_NODEFILE {file} is not on this node"
    if lines and host and place_of(host, unique(lines)) is None:
        return f"its PBS_NODEFILE {file} does not list this node, {host}"
    return ""


def _cores(node: Node, environment: Mapping[str, str], lines: list[str] | None) -> tuple[Bound, ...]:
    one_node = environment.get("PBS_NUM_NODES") == "1"
    found = bounds(
        (parse_integer(environment.get("PBS_NUM_PPN")), "PBS_NUM_PPN"),
        (parse_integer(environment.get("PBS_NP")) if one_node else None, "PBS_NP"),
        (parse_integer(environment.get("NCPUS")), "NCPUS"),
    )
    if found:
        return found
    # One line per core with Torque, one per process with PBS Professional, where NCPUS is set: only without others.
    host = host_name(node)
    return bounds((sum(1 for line in lines or () if short_name(line) == host), "PBS_NODEFILE"))


def _gpus_here(node: Node, path: str) -> tuple[str, ...] | None:
    """This host's devices in Torque's GPU file, whose lines are ``HOST-gpuN``; None without the file."""
    lines = _lines(node, path)
    if lines is None:
        return None
    host = host_name(node)
    devices = (line.rpartition("-") for line in lines)
    return unique([device for name, _, device in devices if short_name(name) == host])


def _first_of(*numbers: int | None) -> int | None:
    return next((number for number in numbers if number is not None), None)


def ask_server(node: Node, environment: Mapping[str, str], found: Allocation) -> Allocation:
    """The allocation with what only the server tells, asked when the variables have no walltime. Nothing changes when
    qstat is missing, fails, or takes longer than 3 s."""
    if found.walltime_seconds is not None or found.job_id is None or not re.fullmatch(_JOB_ID, found.job_id):
        return found
    answer = ask(node, ("qstat", "-f", found.job_id), environment, ("PBS_CONF_FILE", "PBS_EXEC"))
    told = parse_qstat(answer)
    walltime = parse_duration_seconds(told.get("Resource_List.walltime", ""))
    start = parse_ctime(told.get("stime", "") or told.get("start_time", ""))
    memory = parse_size_mib(told.get("Resource_List.mem", ""))
    runs = parse_integer(told.get("run_count"))
    return replace(
        found,
        walltime_seconds=bound(walltime, "qstat Resource_List.walltime"),
        start_time=bound(start, "qstat stime") or found.start_time,
        # The sum over all nodes of the job, so a bound for this one only when it is the only one.
        memory_mib=bounds((memory if len(found.nodes) == 1 else None, "qstat Resource_List.mem")),
        restarts=bound(max(0, runs - 1), "qstat run_count") if runs else None,
        queue=found.queue or told.get("queue"),
        account=found.account or told.get("Account_Name"),
        problem=why_not(answer),
    )


def parse_qstat(answer: Command) -> dict[str, str]:
    """The attributes in the full form of qstat(1B), whose long lines go on after a tab; empty unless it succeeded."""
    text = answer.stdout.replace("\n\t", "") if answer.ok else ""
    matches = (re.fullmatch(_ATTRIBUTE, line) for line in text.splitlines())
    return {match[1]: match[2].strip() for match in matches if match}


def parse_size_mib(text: str) -> int | None:
    """MiB from a size such as ``16gb``; plain numbers are bytes (pbs_resources(7B)). None for other text."""
    match = re.fullmatch(_SIZE, text.strip().lower())
    return (int(match[1]) << _SHIFTS[match[2]]) >> 20 if match else None
