"""The machine ad has the names, types and units that users' expressions rely on; what it leaves out has a reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pilot_agent.config import Layer, load_config
from pilot_agent.lifecycle.channel import ACCEPTING_ATTRIBUTE
from pilot_agent.lifecycle.task_tally import TaskTally
from pilot_agent.model import Fact, Json, PilotError
from pilot_agent.plugins.attributes import FACTS as FROM_FACTS
from pilot_agent.plugins.attributes import JOB_FEATURES, MACHINE_FEATURES, feature_attributes, pilot_attributes
from pilot_agent.plugins.condor import build_plan
from pilot_agent.plugins.machine_ad import BATCH_SYSTEMS, node_attributes
from pilot_agent.startd.classad import literal
from pilot_agent.startd.configuration import render
from pilot_agent.startd.plan import SENT_ATTRIBUTES, NetworkPlan
from tests.startd.plans import CONDOR, knobs
from tests.startd.test_condor_plugin import FACTS, inputs

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "machine-ad.md"

CONFIGURATION: dict[str, Json] = {
    "pool": {"collectors": ["cm.example.org:9618"]},
    "site": {"name": "Site", "resource": "Site-CE"},
    "entry": {"name": "Entry", "gatekeeper": "ce.example.org", "grid_type": "batch slurm"},
    "factory": {
        "name": "Factory",
        "glidein": "instance",
        "schedd": "schedd@factory",
        "cluster": 17,
        "process": 4,
        "credential": "id-1",
    },
    "vo": {"name": "vo", "group": "main"},
    "time": {"walltime_seconds": 86400},
    "startd": {"resource_slots": "ioslot,2", "tail_shutdown_seconds": 400},
}
NODE = {
    "batch.system": "htcondor",
    "batch.job_id": "12.0",
    "batch.queue": "long",
    "os.id": "almalinux",
    "os.version": "9.4",
    "os.pretty_name": "AlmaLinux 9.4 (Seafoam Ocelot)",
    "userns.usable": True,
}

# name -> (type in the ad, its value here, where it comes from)
GIVEN: dict[str, tuple[str, str, str]] = {
    "IS_GLIDEIN": ("boolean", "true", "always"),
    "HAS_MONITOR_VM": ("boolean", "false", "always: there is no slot for monitoring"),
    "IS_MONITOR_VM": ("boolean", "false", "always"),
    "GLIDEIN_Factory": ("string", '"Factory"', "factory.name"),
    "GLIDEIN_Name": ("string", '"instance"', "factory.glidein"),
    "GLIDEIN_Entry_Name": ("string", '"Entry"', "entry.name"),
    "GLIDEIN_Site": ("string", '"Site"', "site.name"),
    "GLIDEIN_ResourceName": ("string", '"Site-CE"', "site.resource"),
    "GLIDEIN_CredentialIdentifier": ("string", '"id-1"', "factory.credential"),
    "GLIDEIN_ClusterId": ("integer", "17", "factory.cluster"),
    "GLIDEIN_ProcId": ("integer", "4", "factory.process"),
    "GLIDEIN_Schedd": ("string", '"schedd@factory"', "factory.schedd"),
    "GLIDEIN_Gatekeeper": ("string", '"ce.example.org"', "entry.gatekeeper"),
    "GLIDEIN_GridType": ("string", '"batch slurm"', "entry.grid_type"),
    "GLIDECLIENT_Name": ("string", '"vo"', "vo.name"),
    "GLIDECLIENT_Group": ("string", '"main"', "vo.group"),
    "GLIDEIN_PARENT_PID": ("integer", "4711", "the process that the batch system sees"),
    "GLIDEIN_START_TIME": ("integer", "1000000", "seconds since 1970"),
    "GLIDEIN_CPUS": ("integer", "4", "cpu.usable"),
    "GLIDEIN_MaxMemMBs": ("integer", "8000", "memory.usable_mib"),
    "GLIDEIN_Max_Walltime": ("integer", "86400", "time.walltime_seconds"),
    "GLIDEIN_Max_Idle": ("integer", "1200", "startd.idle_shutdown_seconds"),
    "GLIDEIN_Max_Tail": ("integer", "400", "startd.tail_shutdown_seconds"),
    "GLIDEIN_Graceful_Shutdown": ("integer", "10", "time.vacate_seconds"),
    "GLIDEIN_CLAIM_WORKLIFE": ("integer", "3600", "startd.claim_worklife_seconds"),
    "GLIDEIN_CLAIM_WORKLIFE_DYNAMIC": ("integer", "3600", "startd.claim_worklife_seconds"),
    "GLIDEIN_Resource_Slots": ("string", '"ioslot,2"', "startd.resource_slots"),
    "GLIDEIN_COLLECTOR_NAME": ("string", '"cm:9618"', "the collectors that were drawn"),
    "GLIDEIN_MASTER_NAME": ("expression", '"$(MASTER_NAME)@$(FULL_HOSTNAME)"', "as the master names its own ad"),
    "DaemonStopTime": ("expression", "MY.GLIDEIN_ToDie", "seconds since 1970; follows GLIDEIN_ToDie"),
    "GLIDEIN_SiteWMS": ("string", '"HTCondor"', "batch.system"),
    "GLIDEIN_SiteWMS_Slot": ("string", '"slot1_3"', "_CONDOR_SLOT, in a job of HTCondor"),
    "GLIDEIN_SiteWMS_JobId": ("string", '"12.0"', "batch.job_id"),
    "GLIDEIN_SiteWMS_Queue": ("string", '"long"', "batch.queue"),
    "LSB_DISTRIBUTOR_ID": ("string", '"AlmaLinux"', "os.id"),
    "LSB_RELEASE": ("string", '"9.4"', "os.version"),
    "LSB_DESCRIPTION": ("string", '"AlmaLinux 9.4 (Seafoam Ocelot)"', "os.pretty_name"),
    "HAS_UNPRIVILEGED_USER_NAMESPACES": ("string", '"enabled"', "userns.usable"),
    "GLIDEIN_PROVIDES": ("string", '"singularity/unprivileged"', "the container runtime"),
    "HAS_SINGULARITY": ("boolean", "true", "the container decision"),
    "GWMS_SINGULARITY_STATUS": ("string", '"REQUIRED"', "the container decision"),
    "SINGULARITY_IMAGES_DICT": ("string", '"el9:/images/el9,default:/images/el9"', "the image dictionary"),
    "GLIDEIN_REQUIRED_OS": ("string", '"el9"', "the image dictionary"),
    **{
        f"{prefix}_{name}": ("string", value, "the container runtime")
        for prefix in ("SINGULARITY", "GWMS_SINGULARITY", "CONTAINERSW", "GWMS_CONTAINERSW")
        for name, value in (("PATH", '"/usr/bin/apptainer"'), ("VERSION", '"1.4.5"'), ("MODE", '"unprivileged"'))
    },
    "MJF_MACHINE_TOTAL_CPU": ("integer", "8", "machine features"),
    "MJF_MACHINE_HS06": ("real", "91.2", "machine features"),
    "MJF_MACHINE_SHUTDOWNTIME": ("integer", "1795600000", "machine features, seconds since 1970"),
    "MJF_MACHINE_GRACE_SECS": ("integer", "7200", "machine features"),
    "MJF_JOB_ALLOCATED_CPU": ("integer", "6", "job features"),
    "MJF_JOB_WALL_LIMIT_SECS": ("integer", "90000", "job features"),
    "MJF_JOB_MAX_RSS_BYTES": ("integer", "12884901888", "job features"),
    "MJF_JOB_ID": ("string", '"vm-17"', "job features"),
}

SENT = {
    "GLIDEIN_ToRetire": "seconds since 1970, may change",
    "GLIDEIN_ToDie": "seconds since 1970, may change",
    "GLIDEIN_Expire": "seconds since 1970, follows the token",
}
"""Given by the keeper while the pilot runs, and never a constant beside that."""

TALLIED = {
    "GLIDEIN_PS_OK": "boolean",
    "GLIDEIN_PS_FAILING_LIST": "string",
    "GLIDEIN_PS_FAILED_LIST": "string",
    "GLIDEIN_PS_FAILED_LAST": "string",
    "GLIDEIN_PS_FAILED_LAST_REASON": "string",
    "GLIDEIN_PS_FAILED_LAST_END": "integer",
    "GLIDEIN_PS_LAST": "string",
    "GLIDEIN_PS_LAST_END": "integer",
}
"""Given by the keeper as its periodic tasks end."""

LEFT_OUT = {
    "GLIDEIN_Signature": "there are no lists of files with SHA1: the payload has one digest, and artifacts are signed",
    "GLIDEIN_Entry_Signature": "as GLIDEIN_Signature",
    "GLIDECLIENT_Signature": "as GLIDEIN_Signature",
    "GLIDECLIENT_Group_Signature": "as GLIDEIN_Signature",
    "Monitoring_Name": "there is no second startd for monitoring: condor_ssh_to_job enters jobs",
    "GLIDEIN_DEBUG_OUTPUT": "the wrapper script that read it does not exist",
}
"""Names of GlideinWMS that no pilot gives, with the reason."""


def ad() -> dict[str, str]:
    """The knobs of a pilot of which everything is known."""
    values = load_config([Layer("factory", CONFIGURATION)]).values
    features = {
        "machine": {"total_cpu": 8, "hs06": 91.2, "shutdowntime": 1795600000, "grace_secs": 7200},
        "job": {"allocated_cpu": 6, "wall_limit_secs": 90000, "max_rss_bytes": 12 << 30, "job_id": "vm-17"},
    }
    facts = FACTS | {name: Fact(name, value) for name, value in NODE.items()}
    attributes: dict[str, Json] = feature_attributes(features)
    for one in pilot_attributes(values):
        fact = facts.get(one.fact or "")
        attributes[one.name] = one.value if one.fact is None else fact.value if fact is not None else None
    given = replace(
        inputs(config=values, facts=facts, site_environment={"_CONDOR_SLOT": "slot1_3"}, parent=4711),
        attributes={name: value for name, value in attributes.items() if value is not None},
    )
    plan = build_plan(given, CONDOR, NetworkPlan(no_dns=True, domain="d", ccb=True), ("cm:9618",))
    return knobs(render(plan))


def kind(text: str) -> str:
    if text in ("true", "false"):
        return "boolean"
    if text.lstrip("-").isdigit():
        return "integer"
    if text.replace(".", "", 1).isdigit():
        return "real"
    return "expression" if "$(" in text or not text.startswith('"') else "string"


@pytest.fixture(scope="module")
def rendered() -> dict[str, str]:
    return ad()


@pytest.mark.parametrize("name", GIVEN)
def test_every_name_has_its_type_and_value(rendered: dict[str, str], name: str) -> None:
    wanted, value, _ = GIVEN[name]
    assert rendered[name] == value
    assert kind(value) == wanted
    assert name in rendered["STARTD_ATTRS"].split(", ")


def test_what_changes_is_left_to_the_keeper(rendered: dict[str, str]) -> None:
    assert set(SENT) == set(SENT_ATTRIBUTES)
    assert not {*SENT, ACCEPTING_ATTRIBUTE} & {*rendered["STARTD_ATTRS"].split(", ")}


def test_how_periodic_tasks_went_has_its_names_and_types() -> None:
    told: dict[str, Any] = {}
    tally = TaskTally(SimpleNamespace(note=told.update, update=told.update))  # type: ignore[arg-type]
    tally.ended("load", "exited 4")
    assert {name: kind(literal(value)) for name, value in told.items()} == TALLIED


@pytest.mark.parametrize("name", TALLIED)
def test_no_constant_hides_how_periodic_tasks_went(name: str) -> None:
    given = replace(inputs(), attributes={name.lower(): 1})
    plan = build_plan(given, CONDOR, NetworkPlan(no_dns=True, domain="d", ccb=True), ("cm:9618",))
    with pytest.raises(PilotError, match=name.lower()):
        render(plan)


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_has_a_reason(rendered: dict[str, str], name: str) -> None:
    assert name not in rendered
    assert LEFT_OUT[name]


def test_a_running_jobs_proxy_is_seen_in_its_slots_ad(rendered: dict[str, str]) -> None:
    assert "x509userproxysubject" in rendered["STARTD_JOB_ATTRS"].split(", ")


def test_the_page_has_every_name(rendered: dict[str, str]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    features = {f"MJF_MACHINE_{name.upper()}" for name in MACHINE_FEATURES}
    features |= {f"MJF_JOB_{name.upper()}" for name in JOB_FEATURES}
    names = {*GIVEN, *SENT, *TALLIED, *LEFT_OUT, *FROM_FACTS, *features}
    assert [name for name in sorted(names) if f"`{name}`" not in page and not name.startswith(CONTAINER_NAMES)] == []


CONTAINER_NAMES = ("SINGULARITY_", "GWMS_SINGULARITY_", "CONTAINERSW_", "GWMS_CONTAINERSW_")
"""These are on the page of the containers."""


@pytest.mark.parametrize("system", [*BATCH_SYSTEMS, "none", None])
def test_the_batch_system_has_the_word_that_expressions_compare_it_with(system: str | None) -> None:
    facts = {"batch.system": Fact("batch.system", system) if system else Fact.unknown("batch.system", "hung")}
    found: dict[str, Any] = node_attributes(facts, {"_CONDOR_SLOT": "slot1"})
    assert found["GLIDEIN_SiteWMS"] == BATCH_SYSTEMS.get(system or "", "Unknown")
    assert ("GLIDEIN_SiteWMS_Slot" in found) == (system == "htcondor")


def test_what_is_not_known_is_not_said() -> None:
    values = load_config([]).values
    plan = build_plan(inputs(config=values), CONDOR, NetworkPlan(no_dns=True, domain="d", ccb=True), ("cm:9618",))
    assert not {"GLIDEIN_Name", "GLIDEIN_ClusterId", "GLIDECLIENT_Group", "GLIDEIN_Max_Walltime"} & set(plan.attributes)
    assert plan.attributes["GLIDEIN_SiteWMS"] == "Unknown"
    assert plan.attributes["GLIDEIN_Max_Tail"] == plan.attributes["GLIDEIN_Max_Idle"]
