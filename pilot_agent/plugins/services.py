"""Services: the programs that the configuration's ``services`` names run beside the jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pilot_agent.hookspecs import Service, hookimpl
from pilot_agent.model import Json
from pilot_agent.service_entry import generic_service
from pilot_agent.services.start import start_service

start = start_service

__all__ = ["pilot_services", "start", "start_service"]


@hookimpl
def pilot_services(config: Mapping[str, Json]) -> Iterable[Service]:
    """One service for each entry of ``services``."""
    for name, entry in config["services"].items():
        yield generic_service(name, entry)
