"""The pilot's own facts as attributes of the machine ad, under the names that users' expressions rely on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pilot_agent import __version__
from pilot_agent.hookspecs import Attribute, hookimpl
from pilot_agent.model import Json

# Users' expressions rely on these names; those that carry a probe's fact are given here.
FACTS = {
    "HAS_UNPRIVILEGED_USER_NAMESPACES": "userns.usable",
    "GLIDEIN_SiteWMS_JobId": "batch.job_id",
    "GLIDEIN_SiteWMS_Queue": "batch.queue",
    "LSB_DESCRIPTION": "os.pretty_name",
    "LSB_RELEASE": "os.version",
    "PilotOsId": "os.id",
    "PilotOsGlibc": "os.glibc",
    "PilotMicroarch": "os.microarch",
    "PilotCvmfsRepositories": "cvmfs.repositories",
}

MACHINE_FEATURES = ("total_cpu", "hs06", "shutdowntime", "grace_secs")
JOB_FEATURES = (
    *("allocated_cpu", "hs06_job", "shutdowntime_job", "grace_secs_job", "jobstart_secs", "wall_limit_secs"),
    *("cpu_limit_secs", "max_rss_bytes", "max_swap_bytes", "scratch_limit_bytes"),
)


def feature_attributes(features: Json) -> dict[str, Json]:
    """Attributes from the value of the fact ``batch.features``: times are seconds since 1970, durations seconds, sizes
    bytes, as the site wrote them. What the site does not tell is not advertised, so that it is undefined."""
    told: Mapping[str, Json] = features if isinstance(features, Mapping) else {}
    machine, job = told.get("machine") or {}, told.get("job") or {}
    named = [(f"MJF_MACHINE_{name.upper()}", machine.get(name)) for name in MACHINE_FEATURES]
    named += [(f"MJF_JOB_{name.upper()}", job.get(name)) for name in JOB_FEATURES]
    named.append(("MJF_JOB_ID", job.get("job_id")))
    return {name: value for name, value in named if value is not None}


@hookimpl
def pilot_attributes(config: Mapping[str, Json]) -> Iterable[Attribute]:
    """Names of factory and VO, and what the probes found."""
    yield Attribute(name="PilotVersion", value=__version__)
    yield Attribute(name="GLIDEIN_Factory", value=config["factory"]["name"])
    yield Attribute(name="GLIDECLIENT_Name", value=config["vo"]["name"])
    for name, fact in FACTS.items():
        yield Attribute(name=name, fact=fact)
