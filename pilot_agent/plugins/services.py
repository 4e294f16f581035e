"""Services: the programs that the configuration's ``services`` names run beside the jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pilot_agent.config_values import signal_name
from pilot_agent.hookspecs import Readiness, Service, hookimpl
from pilot_agent.model import Json
from pilot_agent.services.start import start_service

start = start_service

__all__ = ["pilot_services", "start", "start_service"]


@hookimpl
def pilot_services(config: Mapping[str, Json]) -> Iterable[Service]:
    """One service for each entry of ``services``."""
    for name, entry in config["services"].items():
        yield generic_service(name, entry)


def generic_service(name: str, entry: Mapping[str, Json]) -> Service:
    """The service of one entry, which the configuration's validation has accepted: ``command`` and, all optional,
    ``where, platform, environment, port, ready_file, ready_command, ready_seconds, required, attributes, stop_signal,
    stop_seconds, after``."""
    defaults = Service(name=name, command=())
    readiness = Readiness(
        port=entry.get("port"),
        file=entry.get("ready_file"),
        command=tuple(entry.get("ready_command") or ()),
        timeout_seconds=float(_given(entry, "ready_seconds", defaults.readiness.timeout_seconds)),
    )
    return Service(
        name=name,
        command=tuple(entry["command"]),
        where="image" if entry.get("where") == "image" else "host",
        platform=entry.get("platform"),
        environment=dict(entry.get("environment") or {}),
        readiness=readiness,
        attributes=dict(entry.get("attributes") or {}),
        required=bool(_given(entry, "required", defaults.required)),
        after=tuple(entry.get("after") or ()),
        stop_signal=signal_name(_given(entry, "stop_signal", defaults.stop_signal)),
        stop_seconds=float(_given(entry, "stop_seconds", defaults.stop_seconds)),
    )


def _given(entry: Mapping[str, Json], key: str, default: Json) -> Json:
    value = entry.get(key)
    return default if value is None else value
