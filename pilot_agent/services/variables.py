"""What jobs are told of a service: variables of their environment, with the places ``{host}``, ``{port}`` and
``{port:NAME}`` that are filled when the ports are known, and attributes of the machine ad.

The resident keeper loads this module: nothing large is imported.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

READY = ("ready", "shared")
"""The states in which jobs can use a service."""

PORTS_VARIABLE = "PILOT_SERVICES"
"""For periodic tasks: the services that are ready with their ports, as a JSON object ``{"NAME": {"PORT": 8000}}``."""

HOST = "127.0.0.1"
"""Where jobs reach a service: those of other nodes cannot."""


def words(name: str) -> str:
    """A service's or a port's name in the middle of a variable's or an attribute's: other characters become ``_``."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name).upper()


def variables(name: str, ports: Iterable[str], exports: Mapping[str, str]) -> dict[str, str]:
    """The variables that a service gives jobs, with their places: those that every service with ports gives (the first
    port is the one without a name), then its own ``exports``."""
    begin = f"SERVICE_{words(name)}"
    found: dict[str, str] = {}
    for port in ports:
        place = f"{{port:{port}}}"
        if not found:
            found = {f"{begin}_HOST": "{host}", f"{begin}_PORT": place, f"{begin}_URL": f"http://{{host}}:{place}"}
        found[f"{begin}_PORT_{words(port)}"] = place
    return {**found, **exports}


def filled(text: str, ports: Mapping[str, int], host: str = HOST) -> str:
    """``text`` with its places filled: ``{port}`` is the only port of a service that has one."""
    text = text.replace("{host}", host)
    if len(ports) == 1:
        text = text.replace("{port}", "".join(map(str, ports.values())))
    for name, number in ports.items():
        text = text.replace(f"{{port:{name}}}", str(number))
    return text


def told_variables(wanted: Mapping[str, Mapping[str, str]], ports: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
    """The variables that jobs get now: of the services whose ports are given those that are ``wanted``."""
    return {
        name: filled(value, ports[service])
        for service, own in wanted.items()
        if service in ports
        for name, value in own.items()
    }


def ready_attributes(name: str) -> tuple[str, str]:
    """The attributes that say whether a service is ready: ``Triton_Ready`` and ``SERVICE_TRITON_READY`` of triton."""
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)
    return f"{plain[:1].upper()}{plain[1:]}_Ready", f"SERVICE_{plain.upper()}_READY"


def place_attributes(name: str, ports: Mapping[str, int], host: str = HOST) -> dict[str, str | int]:
    """The attributes that say where a service is while it is ready; none for one without ports."""
    begin = f"SERVICE_{words(name)}"
    if not ports:
        return {}
    first = next(iter(ports.values()))
    found: dict[str, str | int] = {
        f"{begin}_HOST": host,
        f"{begin}_PORT": first,
        f"{begin}_URL": f"http://{host}:{first}",
    }
    return found | {f"{begin}_PORT_{words(port)}": number for port, number in ports.items()}
