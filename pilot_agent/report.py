"""The report: the state as people and programs read it (``report.json``, schema ``pilot-agent/report/1``)."""

from __future__ import annotations

import os
import time
from typing import Any

from pilot_agent.codec import to_json
from pilot_agent.lifecycle.deadline import Deadline
from pilot_agent.lifetime import summary
from pilot_agent.model import ContainerDecision, Fact, JobSurroundings, Json, worst_failure
from pilot_agent.startd.history import no_jobs
from pilot_agent.state import State

SCHEMA = "pilot-agent/report/1"
SCHEMA_FILE = "report.schema.json"


def for_glideinwms(state: State) -> bool:
    """Whether an existing GlideinWMS factory reads how the pilot ends."""
    return bool(state.config.get("factory.output") == "glideinwms")


def about_for_factory(state: State) -> dict[str, Json]:
    """What such a factory is told of the pilot beside the report (``lifecycle.factory_output``)."""
    config = state.config
    return {
        "started": state.started,
        "cwd": state.workspace or "",
        "client_name": config.get("vo.name"),
        "client_group": config.get("vo.group"),
        "user": state.user,
        "arch": os.uname().machine,
        "os": os.uname().release,
        "hostname": state.host,
        "glidein_factory": config.get("factory.name"),
        "glidein_name": config.get("factory.glidein"),
        "glidein_entry": config.get("entry.name"),
        "condorg_cluster": config.get("factory.cluster"),
        "condorg_subcluster": config.get("factory.process"),
        "glidein_credential_id": config.get("factory.credential"),
        "condorg_schedd": config.get("factory.schedd"),
    }


def build_report(state: State, *, status: str | None = None, finished: bool = False) -> dict[str, Json]:
    """The report of ``state``; ``status`` overrides what the failures say, ``finished`` sets the end time."""
    failure = worst_failure(list(state.failures))
    found = "preempted" if failure and failure.kind == "preempted" else "failed" if failure else "ok"
    return {
        "schema": SCHEMA,
        "pilot": {
            "id": state.pilot_id,
            "version": state.version,
            "started": timestamp(state.started),
            "finished": timestamp(time.time()) if finished else None,
            "host": state.host,
            "user": state.user,
            "config": list(state.config.layers),
        },
        "outcome": {"status": status or found, "failure": to_json(failure) if failure else None},
        "failures": to_json(state.failures),
        "timeline": to_json(state.timeline),
        "node": nest_facts(state.facts),
        **({"outside": nest_facts(state.outside)} if state.outside else {}),
        "cvmfs": state.cvmfs,
        "container": _container(state.container),
        "checks": to_json(state.checks),
        "verdicts": [
            {
                "vo": verdict.vo,
                "fit": verdict.fit,
                "failure": to_json(verdict.failure) if verdict.failure else None,
                "cvmfs": verdict.cvmfs,
                "container": _container(verdict.container),
            }
            for verdict in state.verdicts
        ],
        "services": to_json(state.services),
        "benchmarks": to_json(state.benchmarks),
        "plugins": to_json(state.plugins),
        "jobs": no_jobs(time.time() - state.started),
        "ad": dict(state.attributes),
        "startd": state.startd,
        "leftovers": list(state.leftovers),
        "time": _time(state.deadline),
        "condor": to_json(state.condor) if state.condor else None,
    }


def report_schema() -> dict[str, Json]:
    """The JSON Schema (2020-12) of the report, from the file in this package."""
    import importlib.resources
    import json

    found: dict[str, Json] = json.loads(importlib.resources.files("pilot_agent").joinpath(SCHEMA_FILE).read_bytes())
    return found


def nest_facts(facts: dict[str, Fact]) -> dict[str, Json]:
    """Facts as the report nests them: ``cpu.usable`` becomes ``{"cpu": {"usable": {...}}}``."""
    nested: dict[str, dict[str, Json]] = {}
    for name in sorted(facts):
        group, _, field_name = name.partition(".")
        nested.setdefault(group, {})[field_name or "value"] = _fact(facts[name])
    return nested


def _fact(fact: Fact) -> Json:
    entry: dict[str, Any] = {"value": fact.value, "unit": fact.unit, "status": fact.status.value}
    entry |= {"source": fact.source, "detail": fact.detail, "where": fact.where}
    if fact.limits:
        entry["limits"] = [{"source": limit.source, "number": limit.number} for limit in fact.limits]
    return entry


def _container(decision: ContainerDecision | None) -> Json:
    if decision is None:
        return None
    return {
        "decision": decision.decision,
        "cell": decision.cell,
        "reason": decision.reason,
        "runtime": to_json(decision.runtime) if decision.runtime else None,
        "runtimes": [to_json(verdict) for verdict in decision.runtimes],
        "image": {"default": decision.default_platform, "platforms": decision.images},
        "why": [
            {
                "candidate": verdict.path,
                "platform": verdict.platform,
                "source": verdict.source,
                "digest": verdict.digest,
                "taken": verdict.taken,
                "proven": verdict.proven,
                "reason": verdict.reason,
                "seconds": verdict.seconds,
                "facts": verdict.facts,
            }
            for verdict in decision.verdicts
        ],
        **surroundings_report(decision.surroundings),
    }


def surroundings_report(found: JobSurroundings) -> dict[str, Json]:
    """What was asked for in jobs' containers and environment; variables without their values, which may be secrets."""
    variables = [
        {"name": one.name, "asked_by": one.asked_by, "given": one.given, "reason": one.reason}
        for one in found.environment
    ]
    return {"binds": to_json(found.binds), "options": to_json(found.options), "environment": variables}


def _time(deadline: Deadline | None) -> Json:
    if deadline is None:
        return None
    told: dict[str, Json] = to_json(deadline)
    return {"summary": summary(deadline)} | told


def timestamp(seconds: float) -> str:
    """UTC time in ISO 8601, milliseconds."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"
