"""LSF: the job's slots on this host (IBM Spectrum LSF reference, "Environment variables set for job execution").

How long it may run is in no variable; bjobs(1) tells it.
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
from pilot_agent.probes.node import Node
from pilot_agent.probes.parsing import parse_integer

DAEMONS = ("sbatchd", "res")
GROUPS = ("/lsf/",)
_JOB_ID = r"[0-9]{1,12}(?:\[[0-9]{1,12}\])?"
_MINUTES = r"([0-9]{1,12})(?:\.([0-9]))?[0-9]{0,6}(?:/\S*)?"


def read_lsf(node: Node, environment: Mapping[str, str]) -> Allocation | Disbelieved | None:
    """The job's part of this node, from variables."""
    job_id = environment.get("LSB_JOBID")
    if not job_id:
        return None
    slots = parse_slots(environment.get("LSB_MCPU_HOSTS", ""))
    hosts = unique(list(slots) or environment.get("LSB_HOSTS", "").split())
    host = host_name(node)
    index = place_of(host, hosts)
    if hosts and host and index is None and not vouched_for(node, GROUPS, DAEMONS):
        return Disbelieved("lsf", f"LSB_JOBID is {job_id}, but its hosts do not include this node, {host}")
    here = {short_name(name): number for name, number in slots.items()}
    total = parse_integer(environment.get("LSB_DJOB_NUMPROC")) if len(slots) <= 1 else None
    reserved_kib = parse_integer(environment.get("LSB_MAX_MEM_RUSAGE"))
    element = parse_integer(environment.get("LSB_JOBINDEX"))
    return Allocation(
        system="lsf",
        # bjobs(1) names an element of an array like this; the index of other jobs is 0.
        job_id=f"{job_id}[{element}]" if element else job_id,
        scratch=environment.get("TMPDIR") or None,
        cores=bounds((here.get(host), "LSB_MCPU_HOSTS"), (total, "LSB_DJOB_NUMPROC")),
        # In KiB: what the job reserved, and so what others on this host can count on that it does not exceed.
        memory_mib=bounds((None if reserved_kib is None else reserved_kib >> 10, "LSB_MAX_MEM_RUSAGE")),
        nodes=hosts,
        node_index=index,
        queue=environment.get("LSB_QUEUE") or None,
        account=environment.get("LSB_PROJECT_NAME") or None,
        job_name=environment.get("LSB_JOBNAME") or None,
        user=environment.get("LSFUSER") or None,
        restarts=Bound(1, "LSB_RESTART") if environment.get("LSB_RESTART") == "Y" else None,
    )


def ask_batch(node: Node, environment: Mapping[str, str], found: Allocation) -> Allocation:
    """The allocation with its run limit. Nothing changes when bjobs is missing, fails, or takes longer than 3 s."""
    if found.job_id is None or not re.fullmatch(_JOB_ID, found.job_id):
        return found
    kept = ("LSF_ENVDIR", "LSF_SERVERDIR", "LSF_BINDIR", "LSF_LIBDIR")
    answer = ask(node, ("bjobs", "-noheader", "-o", "runtimelimit", found.job_id), environment, kept)
    seconds = parse_run_limit(answer.stdout) if answer.ok else None
    return replace(found, walltime_seconds=bound(seconds, "bjobs runtimelimit"), problem=why_not(answer))


def parse_run_limit(text: str) -> int | None:
    """Seconds from the field ``runtimelimit`` of bjobs(1): minutes, with a host after them where the limit is absolute
    (``3.0/hostA``), or ``HH:MM:SS`` where a site asks for that. None for ``-`` and other text."""
    word = text.strip()
    match = re.fullmatch(_MINUTES, word)
    if match:
        return int(match[1]) * 60 + int(match[2] or 0) * 6
    return parse_duration_seconds(word) if word.count(":") == 2 else None


def parse_slots(text: str) -> dict[str, int]:
    """Host -> slots from ``host number host number``; pairs without a number are left out."""
    words = text.split()
    pairs = ((host, parse_integer(number)) for host, number in zip(words[::2], words[1::2], strict=False))
    return {host: number for host, number in pairs if number is not None}
