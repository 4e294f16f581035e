"""What the pilot found becomes HTCondor's plan; what it did not find ends the pilot with a reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.containers.command import Bind
from pilot_agent.model import ContainerDecision, Fact, FailureKind, ImageVerdict, PilotError, Runtime
from pilot_agent.plugins.condor import HandoffInputs, build_plan, master_environment, prepare
from pilot_agent.startd.plan import NetworkPlan, StartdPlan
from pilot_agent.workspace import Workspace
from tests.startd.plans import CONDOR

NOW = 1_000_000.0
RUNTIME = Runtime("/usr/bin/apptainer", "1.4.5", "userns", pid_namespace=True, sif=True)
DECISION = ContainerDecision(
    "REQUIRED",
    "REQUIRED x REQUIRED",
    "agreed",
    RUNTIME,
    "el9",
    (
        ImageVerdict("el9", "/images/el9", taken=True, proven=True, reason=""),
        ImageVerdict("el8", "/images/el8", taken=False, proven=False, reason="missing"),
    ),
)
FACTS = {
    fact.name: fact
    for fact in (
        Fact("cpu.usable", 4.0),
        Fact("memory.usable_mib", 8000),
        Fact("disk.workspace_free_mib", 20000),
        Fact("gpu.devices", []),
    )
}


def config(**changes: Any) -> dict[str, dict[str, Any]]:
    values: dict[str, dict[str, Any]] = {
        "pool": {"collectors": ["cm:9618"], "token": "/none", "ccb": True, "join_seconds": 300},
        "site": {"name": "Example", "resource": None},
        "entry": {"name": "entry", "gatekeeper": None, "grid_type": None},
        "factory": {"glidein": None, "schedd": None, "cluster": None, "process": None, "credential": None},
        "vo": {"group": None},
        "artifacts": {"bundle": None, "mirrors": [], "proxies": [], "seconds": 60},
        "cvmfs": {"repositories": []},
        "containers": {
            "allowed_paths": ["/data/images"],
            "forbidden_image": "hold",
            "gpu_libraries": True,
            "bind_opencl": True,
            "scratch": "/srv",
            "store_directory": None,
            "store_mib": None,
            "fetch_seconds": 900,
            "sources": None,
        },
        "startd": {
            "condor_source": ["directory", "path", "cvmfs", "tarball"],
            "condor_directory": None,
            "condor_version": "any",
            "condor_cvmfs": [],
            "condor_tarballs": None,
            "condor_index_sha256": None,
            "condor_cache": None,
            "condor_cache_mib": 512,
            "condor_fetch_seconds": 300,
            "no_dns": True,
            "ssh_to_job": True,
            "shared_port": False,
            "services_attribute": "WantServices",
            "cvmfs_attribute": "WantCvmfs",
            "domain": "d",
            "idle_shutdown_seconds": 1200,
            "tail_shutdown_seconds": None,
            "claim_worklife_seconds": 3600,
            "slots": "partitionable",
            "fixed_slots": None,
            "cores_per_slot": None,
            "gpus": None,
            "resource_slots": None,
            "start": None,
            "rank": None,
            "preempt": None,
            "memory_policy": "hold",
            "disk_policy": "hold",
            "job_cgroups": "auto",
            "transfer_plugins": [],
            "channel_period_seconds": 20,
        },
        "time": {
            "walltime_seconds": None,
            "teardown_seconds": 25,
            "vacate_seconds": 10,
            "job_length": {"MaxRuntime": "seconds"},
        },
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        values[section][name] = value
    return values


def inputs(**changes: Any) -> HandoffInputs:
    base = HandoffInputs(
        pilot_id="x",
        workspace="/scratch/pilot-x",
        started=NOW,
        config=config(),
        facts=FACTS,
        decision=DECISION,
        site_environment={"PATH": "/nowhere"},
    )
    return replace(base, **changes)


def plan_of(**changes: Any) -> StartdPlan:
    network = NetworkPlan(no_dns=True, domain="d", ccb=True)
    return build_plan(inputs(**changes), CONDOR, network, ("cm:9618",))


def failure_code(**changes: Any) -> str:
    with pytest.raises(PilotError) as caught:
        plan_of(**changes)
    return caught.value.failure.code


def test_resources_come_from_the_probes() -> None:
    plan = plan_of()
    assert (plan.cores, plan.memory_mib, plan.disk_mib, plan.gpus) == (4, 8000, 20000, ())


@pytest.mark.parametrize("name", ["cpu.usable", "memory.usable_mib", "disk.workspace_free_mib"])
def test_an_unknown_resource_is_never_left_to_htcondor(name: str) -> None:
    assert failure_code(facts=FACTS | {name: Fact.unknown(name, "not readable")}) == "resource.unknown"
    assert failure_code(facts={key: fact for key, fact in FACTS.items() if key != name}) == "resource.unknown"


def test_only_usable_gpus_with_an_identifier_are_offered() -> None:
    devices = [
        {"uuid": "GPU-1", "name": "X", "memory_mib": 40960, "capability": "9.0", "state": "usable"},
        {"uuid": "GPU-2", "state": "unusable"},
        {"uuid": None, "state": "usable"},
        {"uuid": "amd-1", "state": "usable", "vendor": "amd"},
    ]
    (gpu,) = plan_of(facts=FACTS | {"gpu.devices": Fact("gpu.devices", devices)}).gpus
    assert gpu.uuid == "GPU-1"
    assert gpu.properties["Capability"] == 9.0
    assert plan_of(facts=FACTS | {"gpu.devices": Fact.unknown("gpu.devices", "hung")}).gpus == ()


def test_how_jobs_tell_their_length_is_htcondors_to_judge() -> None:
    assert plan_of().job_length == {"MaxRuntime": "seconds"}


def test_a_proven_dictionary_needs_no_test_before_each_job() -> None:
    container = plan_of().container
    assert container is not None
    assert container.images == {"el9": "/images/el9"}
    assert not container.test_before_job
    assert container.extra_arguments == ("--no-eval",)
    assert container.allowed_paths == ("/data/images",)


def test_without_a_proven_image_htcondor_tests_each() -> None:
    unproven = replace(DECISION, verdicts=(ImageVerdict("el9", "/i", taken=True, proven=False, reason=""),))
    for decision in (unproven, replace(DECISION, verdicts=(), default_platform=None)):
        container = plan_of(decision=decision).container
        assert container is not None
        assert container.test_before_job


def test_containers_that_are_not_wanted_are_not_configured() -> None:
    assert plan_of(decision=replace(DECISION, decision="NEVER")).container is None
    assert plan_of(decision=replace(DECISION, decision="DISABLE")).container is None


def test_preferred_containers_without_a_runtime_are_given_up() -> None:
    assert plan_of(decision=replace(DECISION, decision="PREFERRED", runtime=None)).container is None


def test_required_containers_without_a_runtime_end_the_pilot() -> None:
    assert failure_code(decision=replace(DECISION, runtime=None)) == "container.missing"
    assert failure_code(decision=replace(DECISION, decision="FAIL")) == "container.conflict"


@pytest.mark.parametrize("bind", ["/scratch", "/", "/scratch/pilot-x/private/tokens:/t", "/scratch/pilot-x:/w:ro"])
def test_binds_that_show_the_token_are_refused(bind: str) -> None:
    assert failure_code(job_binds=(Bind.parse(bind),)) == "container.bind"


def test_other_binds_pass() -> None:
    container = plan_of(job_binds=(Bind("/cvmfs", "/cvmfs", read_only=True), Bind("/scratch/pilot-xy", "/d"))).container
    assert container is not None
    assert container.binds == ("/cvmfs:/cvmfs:ro", "/scratch/pilot-xy:/d")


def test_an_old_htcondor_tests_the_runtime_itself() -> None:
    network = NetworkPlan(no_dns=True, domain="d", ccb=True)
    old = build_plan(inputs(), replace(CONDOR, version="10.0.9"), network, ("cm:9618",)).container
    assert old is not None
    assert not old.proven


def test_nothing_of_the_sites_htcondor_reaches_the_pilots() -> None:
    site = {
        "PATH": "/opt/bin:relative",
        "_CONDOR_DAEMON_LIST": "X",
        "CONDOR_CONFIG": "/etc/condor/condor_config",
        "CONDOR_INHERIT": "1 <127.0.0.1:1>",
        "APPTAINER_BINDPATH": "/",
        "SINGULARITY_BIND": "/",
        "PYTHONPATH": "/x",
        "LD_PRELOAD": "/x.so",
        "LD_LIBRARY_PATH": "/x",
        "HOME": "/home/x",
    }
    environment = master_environment(site, Workspace("/scratch/pilot-x"))
    assert environment["CONDOR_CONFIG"] == "/scratch/pilot-x/private/condor/condor_config"
    assert environment["HOME"] == "/scratch/pilot-x"
    assert not [
        name for name in environment if name.startswith(("_CONDOR", "APPTAINER", "SINGULARITY", "PYTHON", "LD_"))
    ]
    assert "CONDOR_INHERIT" not in environment
    assert "relative" not in environment["PATH"].split(":")


def test_a_node_without_htcondor_is_the_sites_matter(tmp_path: Path) -> None:
    with pytest.raises(PilotError) as caught:
        prepare(inputs(workspace=str(tmp_path), config=config(startd__condor_source=["directory"])))
    assert caught.value.failure.kind is FailureKind.NODE_RESOURCE
    assert caught.value.failure.code == "condor.missing"
