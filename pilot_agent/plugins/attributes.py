"""The pilot's own facts as attributes of the machine ad, under the names that users' expressions rely on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pilot_agent import __version__
from pilot_agent.hookspecs import Attribute, hookimpl
from pilot_agent.model import Json

# Users' expressions rely on these names; those that carry a probe's fact are given here.
FACTS = {
    "HAS_UNPRIVILEGED_USER_NAMESPACES": "userns.usable",
    "GLIDEIN_SiteWMS": "batch.system",
    "GLIDEIN_SiteWMS_JobId": "batch.job_id",
    "GLIDEIN_SiteWMS_Queue": "batch.queue",
    "LSB_DESCRIPTION": "os.pretty_name",
    "LSB_RELEASE": "os.version",
    "PilotOsId": "os.id",
    "PilotOsGlibc": "os.glibc",
    "PilotMicroarch": "os.microarch",
    "PilotCvmfsRepositories": "cvmfs.repositories",
}


@hookimpl
def pilot_attributes(config: Mapping[str, Json]) -> Iterable[Attribute]:
    """Names of factory and VO, and what the probes found."""
    yield Attribute(name="PilotVersion", value=__version__)
    yield Attribute(name="GLIDEIN_Factory", value=config["factory"]["name"])
    yield Attribute(name="GLIDECLIENT_Name", value=config["vo"]["name"])
    for name, fact in FACTS.items():
        yield Attribute(name=name, fact=fact)
