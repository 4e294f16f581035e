"""HTCondor: the slot and the job, from the ad files that the starter writes into the job's directory.

The variables alone say nothing, as they outlive their slot; the files do not (HTCondor manual, "Environment and
services for a running job"; the attributes are those of its appendix on machine and job ClassAds).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pilot_agent.probes.batch.batch_job import Allocation, Bound, bound, bounds
from pilot_agent.probes.batch.named_paths import read_named
from pilot_agent.probes.node import Node

# Compiled when first used: most nodes have no file in this form.
_AD_LINE = r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*"
_AD_NUMBER = r"([0-9]{1,15})(?:\.[0-9]{1,15})?"
_MOST_DEVICES = 1024


def parse_ad(text: str) -> dict[str, str]:
    """The attributes of an ad in HTCondor's line form, names in lower case, values as written."""
    matches = (re.fullmatch(_AD_LINE, line) for line in text.splitlines())
    return {match[1].lower(): match[2] for match in matches if match}


def read_htcondor(node: Node, environment: Mapping[str, str]) -> Allocation | None:
    """The slot around this process; None where no ad file is."""
    machine = _read_ad(node, environment, "_CONDOR_MACHINE_AD")
    job = _read_ad(node, environment, "_CONDOR_JOB_AD")
    if not machine and not job:
        return None
    cluster, process = _number(job, "clusterid"), _number(job, "procid")
    slot = _text(machine, "name") or environment.get("_CONDOR_SLOT")
    host = _text(machine, "machine")
    disk_kib = _number(machine, "disk")
    assigned = _text(machine, "assignedgpus")
    return Allocation(
        system="htcondor",
        job_id=None if cluster is None else f"{cluster}.{process or 0}",
        job_note=f"in {slot}" if slot else "",
        start_time=bound(_number(job, "jobcurrentstartdate"), "HTCondor job ad JobCurrentStartDate"),
        ends=_ends(machine, job),
        scratch=environment.get("_CONDOR_SCRATCH_DIR") or None,
        cores=bounds((_number(machine, "cpus"), "HTCondor machine ad Cpus")),
        memory_mib=bounds((_number(machine, "memory"), "HTCondor machine ad Memory")),
        disk_mib=bounds((None if disk_kib is None else disk_kib >> 10, "HTCondor machine ad Disk")),
        nodes=(host,) if host else (),
        node_index=0 if host else None,
        account=_text(job, "accountinggroup") or _text(job, "acctgroup"),
        job_name=_text(job, "jobbatchname"),
        user=_text(job, "owner"),
        # Shadow and starter count a start when the job begins, which is after this file was written.
        restarts=bound(_number(job, "numjobstarts"), "HTCondor job ad NumJobStarts"),
        gpus=None if assigned is None else tuple(re.split(r"[,\s]+", assigned.strip(", \t"))[:_MOST_DEVICES]),
        gpu_count=bound(_number(machine, "gpus"), "HTCondor machine ad GPUs"),
        draining={"true": True, "false": False}.get(machine.get("draining", "").lower()),
    )


def _ends(machine: Mapping[str, str], job: Mapping[str, str]) -> tuple[Bound, ...]:
    """When the pool ends the job: a start with one of the two allowed durations, after which it is put on hold
    (condor_submit(1), ``allowed_job_duration`` and ``allowed_execute_duration``), or the end of an outer pilot."""
    start = _number(job, "jobcurrentstartdate")
    durations = [(_number(job, name.lower()), name) for name in ("AllowedJobDuration", "AllowedExecuteDuration")]
    ends = [Bound(start + seconds, f"HTCondor job ad {name}") for seconds, name in durations if start and seconds]
    return (*ends, *bounds((_number(machine, "glidein_todie"), "HTCondor machine ad GLIDEIN_ToDie")))


def _read_ad(node: Node, environment: Mapping[str, str], variable: str) -> dict[str, str]:
    return parse_ad(read_named(node, environment.get(variable, "")) or "")


def _number(ad: Mapping[str, str], name: str) -> int | None:
    match = re.fullmatch(_AD_NUMBER, ad.get(name, ""))
    return int(match[1]) if match else None


def _text(ad: Mapping[str, str], name: str) -> str | None:
    """The value of a literal string; None for an expression."""
    value = ad.get(name, "")
    quoted = len(value) > 2 and value[0] == value[-1] == '"'
    return value[1:-1].replace('\\"', '"').strip() or None if quoted else None
