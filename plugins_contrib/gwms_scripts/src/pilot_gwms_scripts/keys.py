"""What glidein_config says at the beginning: who the pilot is, and what is known of the node."""

from __future__ import annotations

import os

from pilot_agent.hookspecs import Context
from pilot_agent.model import Json
from pilot_gwms_scripts.images import dictionary_text
from pilot_gwms_scripts.layout import Layout
from pilot_gwms_scripts.settings import Settings

CONFIGURED = {
    "GLIDEIN_Factory": ("factory", "name"),
    "GLIDEIN_Name": ("factory", "glidein"),
    "GLIDEIN_Entry_Name": ("entry", "name"),
    "GLIDECLIENT_Name": ("vo", "name"),
    "GLIDECLIENT_Group": ("vo", "group"),
    "GLIDEIN_Site": ("site", "name"),
    "GLIDEIN_ResourceName": ("site", "resource"),
    "GLIDEIN_Gatekeeper": ("entry", "gatekeeper"),
    "GLIDEIN_GridType": ("entry", "grid_type"),
    "GLIDEIN_CredentialIdentifier": ("factory", "credential"),
    "CONDORG_SCHEDD": ("factory", "schedd"),
    "CONDORG_CLUSTER": ("factory", "cluster"),
    "CONDORG_SUBCLUSTER": ("factory", "process"),
    "GLIDEIN_Max_Walltime": ("time", "walltime_seconds"),
    "GLIDEIN_Max_Idle": ("startd", "idle_shutdown_seconds"),
}
"""Key -> section and key of the configuration."""
FOUND = {
    "GLIDEIN_CPUS": "cpu.usable",
    "GLIDEIN_MaxMemMBs": "memory.usable_mib",
    "GLIDEIN_SiteWMS_JobId": "batch.job_id",
    "GLIDEIN_SiteWMS_Queue": "batch.queue",
}
"""Key -> fact."""
WHOLE_NUMBERS = ("GLIDEIN_CPUS", "GLIDEIN_MaxMemMBs")


def initial(context: Context, layout: Layout, settings: Settings) -> dict[str, str]:
    """Key -> value, in the order of the file. The attributes of the options come last: they override."""
    config = context.config
    found: dict[str, Json] = {"GLIDEIN_UUID": context.pilot_id}
    found |= {key: config[section].get(name) for key, (section, name) in CONFIGURED.items()}
    found |= {key: context.value(fact) for key, fact in FOUND.items()}
    for key in WHOLE_NUMBERS:
        found[key] = None if found[key] is None else int(float(found[key]))
    token = config["pool"].get("token")
    found |= {
        "GLIDEIN_Singularity_Use": str(config["vo"]["containers"]).upper(),
        "GLIDEIN_SINGULARITY_REQUIRE": str(config["site"]["containers"]).upper(),
        "SINGULARITY_IMAGES_DICT": dictionary_text(config["images"]) or None,
        "CVMFS_MOUNT_DIR": context.value("cvmfs.mount_point"),
        "PROXY_URL": context.value("network.proxy") or "None",
        "GLIDEIN_CONDOR_TOKEN": os.path.abspath(token) if token else None,
        "DEBUG_MODE": 1,
        "GLIDEIN_STARTUP_PID": os.getppid(),
        "GLIDEIN_START_DIR_ORIG": os.getcwd(),
        "GLIDEIN_WORKSPACE_ORIG": os.path.dirname(context.workspace or os.getcwd()),
        "SLOTS_LAYOUT": config["startd"]["slots"] if isinstance(config["startd"]["slots"], str) else "fixed",
        "GLIDEIN_INITIALIZED": 0,
        "GLIDEIN_ADVERTISE_ONLY": 0,
    }
    values = {key: str(value) for key, value in found.items() if value is not None}
    values |= layout.fixed_keys()
    return values | {attribute.variable.name: attribute.value for attribute in settings.attributes}
