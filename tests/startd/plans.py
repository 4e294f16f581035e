"""Plans to start from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pilot_agent.hookspecs import StartdFragment
from pilot_agent.startd.confinement import Confinement
from pilot_agent.startd.plan import CondorPaths, ContainerPlan, NetworkPlan, PluginFragment, StartdPlan

CONDOR = CondorPaths(
    release="/usr",
    bin="/usr/bin",
    sbin="/usr/sbin",
    libexec="/usr/libexec/condor",
    lib="/usr/lib/condor",
    version="23.9.6",
    plugins=("/usr/libexec/condor/curl_plugin",),
)
CONTAINER = ContainerPlan(
    runtime="/usr/bin/apptainer",
    images={"el9": "/images/el9", "el8": "/images/el8.sif"},
    default_platform="el9",
    required=True,
    pid_namespace=True,
    sif=True,
    test_before_job=False,
    version="1.4.5",
    mode="unprivileged",
)
CONFINEMENT = Confinement(
    source="/site/pool.token",
    private="/scratch/pilot-x/private",
    execute="/scratch/pilot-x/condor/execute",
    temporary="/scratch/pilot-x/tmp",
)
PLAN = StartdPlan(
    name="pilot-x",
    workspace="/scratch/pilot-x",
    execute_directory="/scratch/pilot-x/condor/execute",
    collectors=("cm.example.org:9618",),
    token_directory="/scratch/pilot-x/private/tokens",
    condor=CONDOR,
    network=NetworkPlan(no_dns=True, domain="localdomain", ccb=True),
    cores=4,
    memory_mib=8000,
    disk_mib=20000,
    channel_command=("/usr/bin/cat", "/scratch/pilot-x/private/ads.fifo"),
    container=CONTAINER,
)


def plan(**changes: Any) -> StartdPlan:
    """The usual plan with some fields changed."""
    return replace(PLAN, **changes)


def fragment(text: str, plugin: str = "example") -> PluginFragment:
    """A plugin's raw lines."""
    return PluginFragment(plugin, StartdFragment(name="lines", text=text))


def knobs(text: str) -> dict[str, str]:
    """A configuration's last value of every knob."""
    pairs = (line.partition("=") for line in text.splitlines() if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}
