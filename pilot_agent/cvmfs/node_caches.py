"""HTTP caches that the pilot runs beside its jobs, as its own CVMFS client is told of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pilot_agent.hookspecs import Service
from pilot_agent.services.variables import HOST


@dataclass(frozen=True, slots=True)
class NodeCache:
    """A service that is a proxy for CVMFS; ``address`` is empty where nobody knows it before it is started."""

    service: str
    address: str


def node_caches(services: Iterable[Service]) -> tuple[NodeCache, ...]:
    """Those of the services that say so, in their order."""
    found = []
    for service in services:
        if service.cvmfs_proxy is not None:
            number = service.ports.get(service.cvmfs_proxy, 0)
            found.append(NodeCache(service.name, f"http://{HOST}:{number}" if number else ""))
    return tuple(found)
