"""CVMFS for the mount stage: what the site mounts itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pilot_agent.hookspecs import Mount, hookimpl
from pilot_agent.model import Json


@hookimpl
def pilot_mounts(config: Mapping[str, Json]) -> Iterable[Mount]:
    """The native CVMFS, unless the configuration wants none."""
    if str(config["cvmfs"]["use"]).lower() != "never":
        yield Mount(
            name="cvmfs",
            run="pilot_agent.cvmfs.native:find_native",
            gives=("cvmfs.repositories", "cvmfs.refused", "cvmfs.revisions", "cvmfs.mount_point"),
        )
