"""Grid Engine and its descendants (SGE, UGE, OGE): sge_submit(1), ENVIRONMENTAL VARIABLES, and sge_pe(5).

How long the job may run (``h_rt``, queue_conf(5)) is in no variable; qstat(1) tells it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from pilot_agent.probes.batch.ancestry import vouched_for
from pilot_agent.probes.batch.batch_commands import ask, why_not
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
)
from pilot_agent.probes.batch.named_paths import missing, read_named
from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import parse_integer

DAEMONS = ("sge_shepherd", "sge_execd")
GROUPS = ("/sge/", "/uge/", "/UGE/", "/GE/")
# JOB_ID is a name that anything may set; Grid Engine sets its own beside it.
_MARKS = ("SGE_ROOT", "SGE_CELL", "SGE_TASK_ID", "SGE_JOB_SPOOL_DIR")
_GRANTED = "SGE_HGR_"
_JOB_ID = r"([0-9]{1,12})(?:\.[0-9]{1,12})?"
_HARD = r"hard[ _]resource_list:\s+(\S.*)"
_RUN_TIME = r"(?:.*,)?\s*h_rt=([0-9:]{1,32})(?:,.*)?"


def read_sge(node: Node, environment: Mapping[str, str]) -> Allocation | Disbelieved | None:
    """The job's part of this node, from variables and the parallel environment's host file."""
    job_id = environment.get("JOB_ID")
    if not job_id or not any(environment.get(name) for name in _MARKS):
        return None
    gone = _contradiction(node, environment)
    if gone and not vouched_for(node, GROUPS, DAEMONS):
        return Disbelieved("sge", f"JOB_ID is {job_id}, but {gone}")
    file = environment.get("PE_HOSTFILE", "")
    slots = parse_host_file(read_named(node, file) or "")
    one_host = environment.get("NHOSTS", "1") == "1"
    total = parse_integer(environment.get("NSLOTS")) if one_host else None
    host = host_name(node)
    task = environment.get("SGE_TASK_ID", "")
    gpus = _granted_gpus(environment)
    return Allocation(
        system="sge",
        # "undefined" for jobs that are no arrays; qstat(1) names tasks like this.
        job_id=f"{job_id}.{task}" if task.isdigit() else job_id,
        scratch=environment.get("TMPDIR") or None,
        cores=bounds(
            (total, "NSLOTS"),
            (_slots_here(slots, host), "PE_HOSTFILE"),
            (_bound_processors(environment), "SGE_BINDING"),
        ),
        nodes=unique(list(slots)),
        node_index=place_of(host, unique(list(slots))),
        queue=environment.get("QUEUE") or None,
        account=environment.get("SGE_ACCOUNT") or None,
        job_name=environment.get("JOB_NAME") or None,
        user=environment.get("SGE_O_LOGNAME") or None,
        restarts=bound({"0": 0, "1": 1, "2": 1}.get(environment.get("RESTARTED", "")), "RESTARTED"),
        gpus=gpus,
        gpu_count=None if gpus is None else Bound(len(gpus), _GRANTED + "*"),
    )


def ask_master(node: Node, environment: Mapping[str, str], found: Allocation) -> Allocation:
    """The allocation with the run time that the job asked for. Nothing changes when qstat is missing, fails, or takes
    longer than 3 s; what only the queue limits is not told."""
    number = re.fullmatch(_JOB_ID, found.job_id or "")
    if number is None:
        return found
    answer = ask(node, ("qstat", "-j", number[1]), environment, ("SGE_ROOT",), words=("SGE_CELL", "SGE_QMASTER_PORT"))
    seconds = parse_run_time(answer.stdout) if answer.ok else None
    return replace(found, walltime_seconds=bound(seconds, "qstat h_rt"), problem=why_not(answer))


def parse_run_time(text: str) -> int | None:
    """Seconds of ``h_rt`` among the hard requests that qstat(1) ``-j`` shows; None without, or with INFINITY."""
    for line in text.splitlines():
        requests = re.fullmatch(_HARD, line.strip())
        found = re.fullmatch(_RUN_TIME, requests[1]) if requests else None
        if found:
            return parse_duration_seconds(found[1])
    return None


def _contradiction(node: Node, environment: Mapping[str, str]) -> str:
    for name in ("SGE_JOB_SPOOL_DIR", "PE_HOSTFILE"):
        path = environment.get(name, "")
        if missing(node, path):
            return f"its {name} {path} is not on this node"
    return ""


def parse_host_file(text: str) -> dict[str, int]:
    """Host -> slots from lines ``host slots queue processors``, a host's lines added up."""
    found: dict[str, int] = {}
    for words in (line.split() for line in text.splitlines()):
        slots = parse_integer(words[1]) if len(words) > 1 else None
        if slots is not None:
            found[words[0]] = found.get(words[0], 0) + slots
    return found


def _slots_here(slots: Mapping[str, int], host: str) -> int:
    return sum(number for name, number in slots.items() if short_name(name) == host)


def _bound_processors(environment: Mapping[str, str]) -> int | None:
    """How many processors the job was bound to: a list of their numbers (sge_submit(1), ``-binding env``)."""
    words = environment.get("SGE_BINDING", "").replace(",", " ").split()
    numbers = {parse_integer(word) for word in words}
    return len(numbers) if words and None not in numbers else None


def _granted_gpus(environment: Mapping[str, str]) -> tuple[str, ...] | None:
    """Devices that a resource map granted; its name is the site's own, so those that speak of a GPU are taken."""
    names = [name for name in sorted(environment) if name.startswith(_GRANTED)]
    granted = [environment[name] for name in names if any(word in name.lower() for word in ("gpu", "cuda"))]
    return unique(" ".join(granted).replace(",", " ").split()) if granted else None
