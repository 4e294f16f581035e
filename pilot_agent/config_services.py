"""What an entry of ``services`` may hold: the same rules for those of the configuration and of plugins.

Everything here speaks of one entry; where it stands in a document is the business of ``config_check``.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from pilot_agent.config_collectors import LARGEST_PORT
from pilot_agent.config_images import BIND, BIND_PATH
from pilot_agent.config_kinds import READY_WAYS, WHERE
from pilot_agent.config_values import signal_name
from pilot_agent.model import Json
from pilot_agent.spelling import nearest

LIVE_WAYS = ("live_port", "live_http", "live_command")
"""The fields of which a service has one at most: how it is known to work still."""
PORT_NAME = r"[A-Za-z][A-Za-z0-9_-]*"
FILES_PLACE = r"\{files:[A-Za-z][A-Za-z0-9_-]*\}"
"""Where the directory of a signed archive comes to stand."""
SERVICE_BIND = rf"({BIND_PATH}|{FILES_PLACE})" + BIND.removeprefix(BIND_PATH)
"""A bind whose source may be such a directory."""
ARCHIVE = r"files/([A-Za-z0-9][A-Za-z0-9._+-]{0,127}/)?[A-Za-z0-9][A-Za-z0-9._+-]{0,123}\.zip"
"""A signed archive: of the factory, or of a VO."""
VARIABLE_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
FAMILY_NAME = r"[A-Za-z_:][A-Za-z0-9_:]*"
"""A family of Prometheus' text format (its "Data model")."""
HTTP_PLACE = r"[A-Za-z0-9_-]+/[!-~]*"
"""PORT/path, the path in printable ASCII without a blank."""
MOST_PORTS = 16
MOST_FAMILIES = 64
SHORTEST_SECONDS = 0.1

_WORDS: Mapping[str, tuple[str, ...]] = {
    "where": WHERE,
    "restart": ("on_failure", "always", "never"),
    "per": ("pilot", "node"),
}
_SECONDS = (
    *("ready_seconds", "live_period_seconds", "live_timeout_seconds", "metrics_period_seconds"),
    *("restart_window_seconds", "backoff_seconds", "backoff_limit_seconds"),
)
_SMALLEST: Mapping[str, float] = {
    **dict.fromkeys(_SECONDS, SHORTEST_SECONDS),
    **dict.fromkeys(("stop_seconds", "cores", "memory_mib", "disk_mib", "restart_limit"), 0),
    **dict.fromkeys(("live_failures", "log_mib"), 1),
}
_HTTP = ("ready_http", "live_http", "metrics_http")
_PORTS = ("port", "live_port")
_PLACE_OF_FILES = re.compile(r"\{files:([^{}]*)\}")
_PLACE_OF_PORT = re.compile(r"\{port(?::([^{}]*))?\}")
_SIGNALS = "|".join(f"(SIG)?{name[3:]}" for name in signal.Signals.__members__)
_ONE_PORT = "is no TCP port; it is 1 to {largest}"


def service_problems(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(field, message) of what is wrong with an entry whose fields have the right types; the field is empty where the
    message is about the whole entry."""
    return [
        *_value_problems(entry),
        *_way_problems(entry),
        *_port_problems(entry),
        *_use_problems(entry),
        *_name_problems(entry),
        *_files_problems(entry),
    ]


def _value_problems(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not entry.get("command", ("",)):
        yield "command", "is empty; the first word is the program"
    for name, words in _WORDS.items():
        if name in entry and entry[name] not in words:
            yield name, f"{entry[name]!r} is none of {', '.join(words)}{nearest(str(entry[name]), words)}"
    for name, smallest in _SMALLEST.items():
        if name in entry and not entry[name] >= smallest:
            yield name, f"{entry[name]} is less than {smallest:g}"
    given = entry.get("stop_signal", "TERM")
    if signal_name(given) not in signal.Signals.__members__:
        near = nearest(signal_name(given), signal.Signals.__members__) or "; a name such as SIGTERM is needed"
        yield "stop_signal", f"{given!r} is no signal{near}"
    gpus = entry.get("gpus")
    if gpus is not None and gpus != "all" and (isinstance(gpus, str) or gpus < 0):
        yield "gpus", f"{gpus!r} is neither a number of devices nor the word all"
    if entry.get("script") == "":
        yield "script", "is empty; a path is needed"


def _way_problems(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for ways, purpose in ((READY_WAYS, "is ready"), (LIVE_WAYS, "still works")):
        given = [name for name in ways if entry.get(name)]
        if len(given) > 1:
            yield "", f"has {' and '.join(given)}; give one way to know that it {purpose}"
    if "metrics_http" in entry and not entry.get("metrics_names"):
        yield "metrics_names", "missing; the families that are to be kept are needed"
    if "metrics_names" in entry and "metrics_http" not in entry:
        yield "metrics_http", "missing; PORT/path where the service tells its metrics is needed"
    if len(entry.get("metrics_names", ())) > MOST_FAMILIES:
        yield "metrics_names", f"{len(entry['metrics_names'])} are more than {MOST_FAMILIES} families"


def _port_problems(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    ports: Mapping[str, int] = entry.get("ports", {})
    for name, number in ports.items():
        if not re.fullmatch(PORT_NAME, name):
            yield f"ports.{name}", f"{name!r} is no name of a port: letters, digits, _ and - only, a letter first"
        if not 0 <= number <= LARGEST_PORT:
            yield f"ports.{name}", f"{number} is no TCP port; it is 1 to {LARGEST_PORT}, or 0 for a free one"
    if len(ports) > MOST_PORTS:
        yield "ports", f"{len(ports)} are more than {MOST_PORTS} ports"
    for number, names in _taken_twice(ports).items():
        yield "ports", f"{' and '.join(names)} have the same number {number}"


def _taken_twice(ports: Mapping[str, int]) -> dict[int, list[str]]:
    numbers: dict[int, list[str]] = {}
    for name, number in ports.items():
        if number:
            numbers.setdefault(number, []).append(name)
    return {number: names for number, names in numbers.items() if len(names) > 1}


def _use_problems(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Of what speaks of ports by their names."""
    ports: Mapping[str, int] = entry.get("ports", {})
    for name in _PORTS:
        given = entry.get(name)
        if given is not None and (problem := _reference_problem(str(given), ports, number=not isinstance(given, str))):
            yield name, problem
    proxy = entry.get("cvmfs_proxy")
    if proxy is not None and (problem := _reference_problem(proxy, ports, number=False)):
        yield "cvmfs_proxy", problem
    for name in _HTTP:
        if name not in entry:
            continue
        place = entry[name]
        if not re.fullmatch(HTTP_PLACE, place):
            yield name, f"{place!r} is not of the form PORT/path, such as http/health"
        elif problem := _reference_problem(place.partition("/")[0], ports, number=place[0].isdigit()):
            yield name, problem
    for name, text in _texts(entry):
        for wanted in _PLACE_OF_PORT.findall(text):
            if wanted and wanted not in ports:
                yield name, f"{{port:{wanted}}} is none of its ports{_known(wanted, ports)}"
            if not wanted and len(ports) > 1:
                yield name, f"{{port}} could be any of {len(ports)}: give one of {_places(ports)}"


def _reference_problem(given: str, ports: Mapping[str, int], *, number: bool) -> str | None:
    if number:
        valid = given.lstrip("-").isdigit() and 0 < int(given) <= LARGEST_PORT
        return None if valid else f"{given} {_ONE_PORT.format(largest=LARGEST_PORT)}"
    return None if given in ports else f"{given!r} is none of its ports{_known(given, ports)}"


def _known(given: str, ports: Mapping[str, int]) -> str:
    if not ports:
        return "; it has none: name them in ports, such as {http: 0}"
    return nearest(given, ports) or f"; they are {', '.join(ports)}"


def _places(ports: Mapping[str, int]) -> str:
    return ", ".join(f"{{port:{name}}}" for name in ports)


def _texts(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(field, text) of all in which a place may stand for a port."""
    for name in ("command", "ready_command", "live_command"):
        yield from ((f"{name}[{index}]", word) for index, word in enumerate(entry.get(name) or ()))
    for name in ("environment", "exports", "attributes"):
        for inner, value in (entry.get(name) or {}).items():
            if isinstance(value, str):
                yield f"{name}.{inner}", value


def _files_problems(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    files: Mapping[str, str] = entry.get("files", {})
    for name, archive in files.items():
        if not re.fullmatch(PORT_NAME, name):
            yield f"files.{name}", f"{name!r} is no name of files: letters, digits, _ and - only, a letter first"
        if not re.fullmatch(ARCHIVE, archive):
            yield f"files.{name}", f"{archive!r} is no signed archive of files: files/NAME.zip or files/VO/NAME.zip"
    lists = {name: entry.get(name) or () for name in ("command", "binds")}
    texts = [(f"{name}[{index}]", text) for name, given in lists.items() for index, text in enumerate(given)]
    texts += [(f"environment.{name}", text) for name, text in (entry.get("environment") or {}).items()]
    for name, text in texts:
        for wanted in _PLACE_OF_FILES.findall(text):
            if wanted not in files:
                near = nearest(wanted, files) or f"; they are {', '.join(files) or 'none'}"
                yield name, f"{{files:{wanted}}} is none of its files{near}"


def _name_problems(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in entry.get("exports", {}):
        if not re.fullmatch(VARIABLE_NAME, name):
            yield f"exports.{name}", f"{name!r} is no name of a variable: letters, digits and _ only, no digit first"
    for index, name in enumerate(entry.get("metrics_names", ())):
        if not re.fullmatch(FAMILY_NAME, name):
            yield f"metrics_names[{index}]", f"{name!r} is no name of a family: letters, digits, _ and : only"
    for index, bind in enumerate(entry.get("binds", ())):
        if not re.fullmatch(SERVICE_BIND, bind):
            yield f"binds[{index}]", f"{bind!r} is no bind: source[:destination[:ro]] with absolute paths is needed"
    if entry.get("binds") and entry.get("where") != "image":
        yield "binds", "only what has where: image has binds"


def service_schema(schema: dict[str, Json]) -> dict[str, Json]:
    """The JSON Schema of an entry, from that of its fields alone. It takes all that ``service_problems`` takes, and
    refuses what that refuses but for names of ports, which no schema can compare."""
    port = {"type": ["integer", "string"], "minimum": 1, "maximum": LARGEST_PORT}
    number = {"type": "integer", "minimum": 0, "maximum": LARGEST_PORT}
    limits: dict[str, dict[str, Json]] = {
        "command": {"minItems": 1},
        "script": {"minLength": 1},
        **{name: {"enum": list(words)} for name, words in _WORDS.items()},
        **{name: {"minimum": smallest} for name, smallest in _SMALLEST.items()},
        **dict.fromkeys(_PORTS, port),
        **{name: {"pattern": _whole(HTTP_PLACE)} for name in _HTTP},
        "stop_signal": {"pattern": f"^(?i:{_SIGNALS})$"},
        "gpus": {"type": ["integer", "string"], "minimum": 0, "pattern": _whole("all")},
        "ports": {
            "propertyNames": {"pattern": _whole(PORT_NAME)},
            "maxProperties": MOST_PORTS,
            "additionalProperties": number,
        },
        "exports": {"propertyNames": {"pattern": _whole(VARIABLE_NAME)}},
        "metrics_names": {"minItems": 1, "maxItems": MOST_FAMILIES, **_each(FAMILY_NAME)},
        "binds": _each(SERVICE_BIND),
        "files": {
            "propertyNames": {"pattern": _whole(PORT_NAME)},
            "additionalProperties": {"type": "string", "pattern": _whole(ARCHIVE)},
        },
    }
    fields = {name: {**field, **limits.get(name, {})} for name, field in schema["properties"].items()}
    together = {"metrics_http": ["metrics_names"], "metrics_names": ["metrics_http"]}
    bound = {
        "if": {"required": ["binds"], "properties": {"binds": {"minItems": 1}}},
        "then": {"required": ["where"], "properties": {"where": {"const": "image"}}},
    }
    pairs = [*combinations(READY_WAYS, 2), *combinations(LIVE_WAYS, 2)]
    alone = [{"not": {"allOf": [_given(one), _given(other)]}} for one, other in pairs]
    return {**schema, "properties": fields, "dependentRequired": together, "allOf": [*alone, bound]}


def _given(name: str) -> dict[str, Json]:
    """Two ways count only when neither is an empty text or list."""
    return {"required": [name], "properties": {name: {"minLength": 1, "minItems": 1}}}


def _each(pattern: str) -> dict[str, Json]:
    return {"items": {"type": "string", "pattern": _whole(pattern)}}


def _whole(pattern: str) -> str:
    return f"^(?:{pattern})(?![\\s\\S])"
