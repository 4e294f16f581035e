"""A service as an entry of the configuration, and back: both forms have the same fields under other names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pilot_agent.codec import CodecError, from_json, to_json
from pilot_agent.config_kinds import SERVICE_NAME
from pilot_agent.config_services import service_problems
from pilot_agent.config_values import signal_name
from pilot_agent.hookspecs import Liveness, Metrics, Readiness, Service
from pilot_agent.model import Json


def generic_service(name: str, entry: Mapping[str, Json]) -> Service:
    """The service of one entry, which the configuration's validation has accepted: ``command`` and any other of
    ``config_kinds.SERVICE_FIELDS``."""
    plain: dict[str, Any] = {field: entry[field] for field in _PLAIN if entry.get(field) is not None}
    if "stop_signal" in plain:
        plain["stop_signal"] = signal_name(plain["stop_signal"])
    plain |= {field: tuple(entry[field]) for field in _LISTS if entry.get(field)}
    plain |= {field: dict(entry[field]) for field in _MAPPINGS if entry.get(field)}
    live, metrics = _part(entry, _LIVE), _part(entry, _METRICS)
    return Service(
        name=name,
        readiness=Readiness(**_part(entry, _READY)),
        liveness=Liveness(**live) if any(way in live for way in ("port", "http", "command")) else None,
        metrics=Metrics(**metrics) if metrics.get("http") else None,
        **plain,
    )


_PLAIN = (
    *("script", "where", "platform", "required", "restart", "restart_limit", "restart_window_seconds", "cores", "per"),
    *("backoff_seconds", "backoff_limit_seconds", "memory_mib", "gpus", "gpus_exclusive", "gpus_optional", "log_mib"),
    *("cvmfs_proxy", "stop_signal", "stop_seconds", "disk_mib"),
)
_LISTS = ("command", "binds", "after", "before", "needs")
_MAPPINGS = ("environment", "files", "ports", "attributes", "exports")
_READY = {
    "port": "port",
    "ready_http": "http",
    "ready_log": "log",
    "ready_file": "file",
    "ready_command": "command",
    "ready_seconds": "timeout_seconds",
}
_LIVE = {
    "live_port": "port",
    "live_http": "http",
    "live_command": "command",
    "live_period_seconds": "period_seconds",
    "live_timeout_seconds": "timeout_seconds",
    "live_failures": "failures",
}
_METRICS = {"metrics_http": "http", "metrics_names": "names", "metrics_period_seconds": "period_seconds"}


def _part(entry: Mapping[str, Json], names: Mapping[str, str]) -> dict[str, Any]:
    """Those of an entry's fields that one part of the service has, by their names there."""
    given = {inner: entry[name] for name, inner in names.items() if entry.get(name) not in (None, "", [])}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def entry_of(service: Service) -> tuple[dict[str, Any], dict[str, str]]:
    """A declared service as an entry of the configuration, and what its fields are called in the declaration."""
    entry: dict[str, Any] = {
        field: value for field in (*_PLAIN, *_LISTS, *_MAPPINGS) if (value := getattr(service, field)) is not None
    }
    called: dict[str, str] = {}
    for part, names in (("readiness", _READY), ("liveness", _LIVE), ("metrics", _METRICS)):
        record = getattr(service, part)
        for name, inner in names.items() if record is not None else ():
            called[name] = f"{part}.{inner}"
            value = getattr(record, inner)
            if value is not None and value != ():
                entry[name] = value
    return entry, called


def declared_problems(service: Service) -> list[str]:
    """What is wrong with a service that a plugin declared, each beginning with the field."""
    try:
        service = from_json(Service, to_json(service))
    except CodecError as error:
        return [str(error)]
    entry, called = entry_of(service)
    found = []
    if not re.fullmatch(SERVICE_NAME, service.name):
        found.append(
            f"{service.name!r} is no name of a service: letters, digits and . _ - only, a letter or digit first"
        )
    for place, message in service_problems(entry):
        field = place.partition(".")[0].partition("[")[0]
        where = called.get(field, field) + place[len(field) :]
        found.append(f"{where}: {message}" if where else f"it {message}")
    return found
