"""Which HTCondor the configuration wants, and where it may be found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot_agent import CVMFS
from pilot_agent.facts import known_value
from pilot_agent.startd.sources import CondorRequest
from pilot_agent.tarballs.index import node_system
from pilot_agent.trust.bundle import Trust
from pilot_agent.workspace import Workspace

if TYPE_CHECKING:
    from pilot_agent.plugins.condor import HandoffInputs


def condor_request(inputs: HandoffInputs) -> CondorRequest:
    """What the configuration says of the HTCondor to run on this node."""
    startd = inputs.config["startd"]
    return CondorRequest(
        artifacts=Workspace(inputs.workspace).artifacts,
        environment=inputs.site_environment,
        node=node_system(inputs.facts),
        order=tuple(startd["condor_source"]),
        version=startd["condor_version"],
        directory=startd["condor_directory"] or "",
        cvmfs=tuple(startd["condor_cvmfs"]),
        mount_point=str(known_value(inputs.facts, "cvmfs.mount_point", CVMFS)),
        repositories=tuple(inputs.config["cvmfs"]["repositories"]),
        tarballs=startd["condor_tarballs"] or "",
        index_sha256=startd["condor_index_sha256"] or "",
        trust=Trust.of(inputs.config),
        cache=startd["condor_cache"] or "",
        cache_mib=startd["condor_cache_mib"],
        fetch_seconds=startd["condor_fetch_seconds"],
    )
