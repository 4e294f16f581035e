"""Services: the programs that the configuration's ``services`` names run beside the jobs."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping

from pilot_agent.hookspecs import Readiness, Service, hookimpl
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.services.start import start_service

start = start_service

__all__ = ["pilot_services", "start", "start_service"]


@hookimpl
def pilot_services(config: Mapping[str, Json]) -> Iterable[Service]:
    """One service for each entry of ``services``. Raises ``PilotError`` (config.invalid) with the entry's path."""
    for name, entry in config["services"].items():
        yield generic_service(name, entry)


def generic_service(name: str, entry: Mapping[str, Json]) -> Service:
    """The service of one entry: ``command`` and, all optional, ``environment, port, ready_file, ready_command,
    ready_seconds, required, attributes, stop_signal, stop_seconds, after``.

    Raises ``PilotError`` (config.invalid) for what the keys' types cannot tell.
    """
    if not entry["command"]:
        raise _invalid(f"services.{name}.command", "is empty; the first word is the program")
    ways = [key for key in ("port", "ready_file", "ready_command") if entry.get(key)]
    if len(ways) > 1:
        raise _invalid(f"services.{name}", f"has {' and '.join(ways)}; give one way to know that it is ready")
    defaults = Service(name=name, command=())
    readiness = Readiness(
        port=_port(name, entry.get("port")),
        file=entry.get("ready_file"),
        command=tuple(entry.get("ready_command") or ()),
        timeout_seconds=float(_given(entry, "ready_seconds", defaults.readiness.timeout_seconds)),
    )
    return Service(
        name=name,
        command=tuple(entry["command"]),
        environment=dict(entry.get("environment") or {}),
        readiness=readiness,
        attributes=dict(entry.get("attributes") or {}),
        required=bool(_given(entry, "required", defaults.required)),
        after=tuple(entry.get("after") or ()),
        stop_signal=_signal_name(name, _given(entry, "stop_signal", defaults.stop_signal)),
        stop_seconds=float(_given(entry, "stop_seconds", defaults.stop_seconds)),
    )


def _given(entry: Mapping[str, Json], key: str, default: Json) -> Json:
    value = entry.get(key)
    return default if value is None else value


def _port(name: str, port: int | None) -> int | None:
    if port is not None and not 0 < port < 65536:
        raise _invalid(f"services.{name}.port", f"{port} is no TCP port; it is 1 to 65535")
    return port


def _signal_name(name: str, given: str) -> str:
    word = given.upper()
    word = word if word.startswith("SIG") else f"SIG{word}"
    if word not in signal.Signals.__members__:
        raise _invalid(f"services.{name}.stop_signal", f"{given!r} is no signal; a name such as SIGTERM is needed")
    return word


def _invalid(path: str, problem: str) -> PilotError:
    return PilotError(Failure(FailureKind.CONFIG, "config.invalid", f"{path}: {problem}", "correct the named key"))
