"""The JSON Schema of a configuration document, made from the table of keys."""

from __future__ import annotations

from collections.abc import Mapping

from pilot_agent.config_collectors import COLLECTORS, DOMAIN
from pilot_agent.config_cvmfs import PARAMETER, PARAMETER_VALUE, PLAIN_DIRECTORY, PROXY_GROUP
from pilot_agent.config_images import (
    ANY_ARCHITECTURE,
    ARCHITECTURES,
    BIND,
    BIND_PATH,
    CONDOR_PLACE,
    CONDOR_VERSION,
    CPU_LEVEL,
    DEFAULT,
    DIGEST,
    LINE,
    PLATFORM,
    PREFIX,
    REPOSITORY,
    RUNTIME_OPTION,
    SCRATCH_INSIDE,
    SHA256,
    TARBALLS,
    VARIABLE_PATTERN,
    VERSION,
)
from pilot_agent.config_keys import KEYS
from pilot_agent.config_kinds import (
    BIND_FIELDS,
    IMAGE_FIELDS,
    REQUIREMENT_FIELDS,
    SERVICE_FIELDS,
    SERVICE_NAME,
    WHERE,
    Key,
    Kind,
)
from pilot_agent.config_programs import PROGRAM_FIELDS, PROGRAM_NEEDS, entry_schema
from pilot_agent.config_services import service_schema
from pilot_agent.model import Json

_SECTION_SCHEMA: Mapping[str, Json] = {"type": ["object", "null"], "additionalProperties": False}
_PLATFORM_OF_IMAGE: Mapping[str, Json] = {
    "if": {"required": ["platform"]},
    "then": {"required": ["where"], "properties": {"where": {"const": "image"}}},
}
"""A platform is named only by what runs inside an image."""


_TEXTS = {
    Kind.PREFIXES: PREFIX,
    Kind.DIRECTORIES: BIND_PATH,
    Kind.OPTIONS: RUNTIME_OPTION,
    Kind.VARIABLES: VARIABLE_PATTERN,
    Kind.CONDOR_PLACES: CONDOR_PLACE,
    Kind.COLLECTORS: COLLECTORS,
    Kind.REPOSITORIES: REPOSITORY,
    Kind.CVMFS_PROXIES: PROXY_GROUP,
}
"""The patterns of what is in lists of texts."""
_SINGLE = {
    Kind.DOMAIN: DOMAIN,
    Kind.SCRATCH: SCRATCH_INSIDE,
    Kind.CONDOR_VERSION: CONDOR_VERSION,
    Kind.TARBALLS: TARBALLS,
    Kind.SHA256: SHA256,
    Kind.PLAIN_DIRECTORY: PLAIN_DIRECTORY,
}
"""The patterns of texts."""
_PLAIN: Mapping[Kind, Json] = {
    Kind.WEIGHTED: ["string", "boolean"],
    Kind.CORES: ["integer", "string"],
    Kind.PORTS: "object",
    Kind.PORT: ["integer", "string"],
    Kind.DEVICES: ["integer", "string"],
    Kind.MAPPING: "object",
    Kind.EXPRESSION: "string",
    Kind.RESOURCE_SLOTS: "string",
}


def _whole(pattern: str) -> str:
    """The pattern for all of a text; ``$`` would also match before a newline at the end."""
    return f"^(?:{pattern})(?![\\s\\S])"


def _named(names: str, values: Mapping[str, Json]) -> Mapping[str, Json]:
    """A mapping whose names have this pattern."""
    return {"type": "object", "propertyNames": {"pattern": _whole(names)}, "additionalProperties": values}


_PARAMETERS = _named(PARAMETER, {"type": "string", "pattern": _whole(PARAMETER_VALUE)})
_MADE: Mapping[Kind, Mapping[str, Json]] = {
    Kind.CVMFS_PARAMETERS: _PARAMETERS,
    Kind.CVMFS_REPOSITORY_PARAMETERS: _named(REPOSITORY, _PARAMETERS),
}


def json_schema() -> Json:
    """The JSON Schema of a configuration document."""
    schema: dict[str, Json] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pilot-agent configuration",
        "type": "object",
        "additionalProperties": False,
        "properties": {},
    }
    properties: dict[str, Json] = schema["properties"]
    for key in KEYS:
        section, _, name = key.path.partition(".")
        if name:
            part = properties.setdefault(section, {**_SECTION_SCHEMA, "properties": {}})
            part["properties"][name] = _key_schema(key)
        else:
            properties[section] = _key_schema(key)
    return schema


def _key_schema(key: Key) -> Json:
    kind = _kind_schema(key.kind)
    named = kind["type"]
    # null is what YAML makes of a key without a value: not given.
    kind["type"] = [*named, "null"] if isinstance(named, list) else [named, "null"]
    schema: dict[str, Json] = {"description": key.help, **kind}
    if key.choices:
        words = {"pattern": "^(?i:" + "|".join(key.choices) + ")$"}
        inner = next((name for name in ("items", "additionalProperties") if name in kind), None)
        schema |= words if inner is None else {inner: {**kind[inner], **words}}
    if key.minimum is not None:
        schema["minimum"] = key.minimum
    if key.maximum is not None:
        schema["maximum"] = key.maximum
    if key.default is not None:
        schema["default"] = key.default
    return schema


def _kind_schema(kind: Kind) -> dict[str, Json]:
    match kind:
        case Kind.STRINGS:
            return {"type": "array", "items": {"type": "string"}}
        case Kind.STRING_MAPPING:
            return {"type": "object", "additionalProperties": {"type": "string"}}
        case Kind.REQUIREMENTS:
            requirement = _fields_schema(REQUIREMENT_FIELDS, ["require"])
            requirement["properties"]["where"]["enum"] = list(WHERE)
            return {"type": "array", "items": {"anyOf": [{"type": "string"}, {**requirement, **_PLATFORM_OF_IMAGE}]}}
        case Kind.IMAGES:
            return _images_schema()
        case Kind.PLATFORM:
            weight = {"type": "number", "exclusiveMinimum": 0}
            names = {"pattern": _whole(PLATFORM)}
            mapping = {"propertyNames": names, "additionalProperties": weight, "minProperties": 1}
            return {"type": ["string", "object"], "pattern": _whole(DEFAULT), **mapping}
        case Kind.BINDS:
            bind = _fields_schema(BIND_FIELDS, ["source"])
            for name in ("source", "destination"):
                bind["properties"][name]["pattern"] = _whole(BIND_PATH)
            return {"type": "array", "items": {"anyOf": [{"type": "string", "pattern": _whole(BIND)}, bind]}}
        case Kind.SERVICES:
            names = {"pattern": f"^{SERVICE_NAME}$"}
            return {"type": "object", "propertyNames": names, "additionalProperties": _service_schema()}
        case Kind.PROBES | Kind.SETUPS | Kind.CHECKS | Kind.PERIODICS | Kind.BENCHMARKS:
            entry = entry_schema(_fields_schema(PROGRAM_FIELDS[kind], list(PROGRAM_NEEDS[kind])))
            return {"type": "array", "items": {**entry, **_PLATFORM_OF_IMAGE}}
        case _ if kind in _SINGLE:
            return {"type": "string", "pattern": _whole(_SINGLE[kind])}
        case _ if kind in _TEXTS:
            return {"type": "array", "items": {"type": "string", "pattern": _whole(_TEXTS[kind])}}
        case _:
            return dict(_MADE.get(kind) or {"type": _PLAIN.get(kind, kind.value)})


def _images_schema() -> dict[str, Json]:
    schema = _fields_schema(IMAGE_FIELDS, ["path"])
    version = {"type": ["string", "integer"], "pattern": _whole(VERSION), "minimum": 0}
    needs = {
        "cpu_level": {"type": "string", "pattern": _whole(CPU_LEVEL)},
        "gpu": {"type": ["boolean", "integer"], "minimum": 0},
        "cuda": version,
        "kernel": version,
    }
    fields = schema["properties"]
    fields["arch"]["pattern"] = f"(?i:{_whole('|'.join(ARCHITECTURES))})"
    fields["digest"]["pattern"] = _whole(DIGEST)
    fields["requires"] = {"type": "object", "additionalProperties": False, "properties": needs}
    under_architecture = {**schema, "properties": {name: fields[name] for name in fields if name != "arch"}}
    names = {"pattern": f"(?i:{_whole('|'.join((*ARCHITECTURES, ANY_ARCHITECTURE)))})"}
    by_architecture = {"type": "object", "propertyNames": names, "additionalProperties": _listed(under_architecture)}
    platform = {"anyOf": [_listed(schema), by_architecture]}
    return {"type": ["object", "string"], "pattern": _whole(LINE), "additionalProperties": platform}


def _listed(candidate: Json) -> Json:
    return {"type": "array", "items": {"anyOf": [{"type": "string"}, candidate]}}


def _service_schema() -> Json:
    whole = {**service_schema(_fields_schema(SERVICE_FIELDS, ["command"])), **_PLATFORM_OF_IMAGE}
    # Without a command it has the options of a plugin, which no schema knows.
    return {"type": ["object", "null"], "if": {"type": "object", "required": ["command"]}, "then": whole}


def _fields_schema(fields: Mapping[str, Kind], needed: list[str]) -> Json:
    properties = {name: _kind_schema(kind) for name, kind in fields.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": needed}
