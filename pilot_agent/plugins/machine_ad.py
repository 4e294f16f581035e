"""What every pilot says of itself in the machine ad, under the names, types and units that users' expressions have
relied on for years (docs/reference/machine-ad.md). What the pilot does not know it does not say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot_agent.facts import known_value
from pilot_agent.startd.container_ad import user_namespaces

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilot_agent.model import Fact, Json
    from pilot_agent.startd.plan import ContainerPlan

# Words that expressions compare GLIDEIN_SiteWMS with.
BATCH_SYSTEMS = {"htcondor": "HTCondor", "sge": "SGE", "pbs": "PBS", "lsf": "LSF", "slurm": "SLURM"}
UNKNOWN_BATCH_SYSTEM = "Unknown"

# What `lsb_release -i` prints, by the identifier of os-release(5).
DISTRIBUTORS = {
    "almalinux": "AlmaLinux",
    "amzn": "Amazon",
    "centos": "CentOS",
    "debian": "Debian",
    "fedora": "Fedora",
    "ol": "OracleServer",
    "opensuse-leap": "openSUSE",
    "rhel": "RedHatEnterprise",
    "rocky": "Rocky",
    "scientific": "Scientific",
    "sles": "SUSE",
    "ubuntu": "Ubuntu",
}

# Attribute -> key of the configuration that gives it, when it gives it.
CONFIGURED = {
    "GLIDEIN_ResourceName": "site.resource",
    "GLIDEIN_Gatekeeper": "entry.gatekeeper",
    "GLIDEIN_GridType": "entry.grid_type",
    "GLIDEIN_Name": "factory.glidein",
    "GLIDEIN_Schedd": "factory.schedd",
    "GLIDEIN_ClusterId": "factory.cluster",
    "GLIDEIN_ProcId": "factory.process",
    "GLIDEIN_CredentialIdentifier": "factory.credential",
    "GLIDECLIENT_Group": "vo.group",
    "GLIDEIN_Max_Walltime": "time.walltime_seconds",
    "GLIDEIN_Resource_Slots": "startd.resource_slots",
}

EXPRESSIONS = {
    # The keeper may bring the end forward: this follows.
    "DaemonStopTime": "MY.GLIDEIN_ToDie",
    # As the master itself names its ad.
    "GLIDEIN_MASTER_NAME": '"$(MASTER_NAME)@$(FULL_HOSTNAME)"',
}
"""Attributes that are no constants: expressions as the configuration has them."""


def identity_attributes(config: Mapping[str, Json], pilot_id: str, started: float, parent: int) -> dict[str, Json]:
    """Who this pilot is and whose. ``parent`` is the process that the batch system sees."""
    found: dict[str, Json] = {
        "IS_GLIDEIN": True,
        "HAS_MONITOR_VM": False,
        "IS_MONITOR_VM": False,
        "GLIDEIN_Site": config["site"]["name"],
        "GLIDEIN_Entry_Name": config["entry"]["name"],
        "GLIDEIN_PARENT_PID": parent,
        "GLIDEIN_START_TIME": int(started),
        "PilotId": pilot_id,
    }
    for name, path in CONFIGURED.items():
        section, _, key = path.partition(".")
        value = config[section].get(key)
        if value is not None:
            found[name] = value
    return found


def life_attributes(startd: Mapping[str, Json], time: Mapping[str, Json]) -> dict[str, Json]:
    """How long the pilot waits for what, all in seconds."""
    tail = startd["tail_shutdown_seconds"]
    return {
        "GLIDEIN_Max_Idle": startd["idle_shutdown_seconds"],
        "GLIDEIN_Max_Tail": startd["idle_shutdown_seconds"] if tail is None else tail,
        "GLIDEIN_Graceful_Shutdown": int(time["vacate_seconds"]),
        "GLIDEIN_CLAIM_WORKLIFE": startd["claim_worklife_seconds"],
        "GLIDEIN_CLAIM_WORKLIFE_DYNAMIC": startd["claim_worklife_seconds"],
    }


def node_attributes(facts: Mapping[str, Fact], environment: Mapping[str, str]) -> dict[str, Json]:
    """What the probes found. ``environment`` is the one the pilot was started with."""
    system = known_value(facts, "batch.system")
    found: dict[str, Json] = {
        "GLIDEIN_SiteWMS": BATCH_SYSTEMS.get(system, UNKNOWN_BATCH_SYSTEM),
        "HAS_UNPRIVILEGED_USER_NAMESPACES": user_namespaces(facts.get("userns.usable")),
    }
    if system == "htcondor" and environment.get("_CONDOR_SLOT"):
        found["GLIDEIN_SiteWMS_Slot"] = environment["_CONDOR_SLOT"]
    distribution = known_value(facts, "os.id")
    if distribution:
        found["LSB_DISTRIBUTOR_ID"] = DISTRIBUTORS.get(distribution, str(distribution).capitalize())
    return found


def size_attributes(cores: int, memory_mib: int) -> dict[str, Json]:
    """How large the whole pilot is, however many slots it has."""
    return {"GLIDEIN_CPUS": cores, "GLIDEIN_MaxMemMBs": memory_mib}


def pool_attributes(collectors: tuple[str, ...]) -> dict[str, Json]:
    """Which collectors were taken."""
    return {"GLIDEIN_COLLECTOR_NAME": ",".join(collectors)}


def provided_attributes(container: ContainerPlan | None) -> dict[str, Json]:
    """What the pilot brings that jobs may ask for, as name/mode."""
    return {"GLIDEIN_PROVIDES": f"singularity/{container.mode}"} if container is not None and container.mode else {}
