"""The JSON Schema of a configuration document, made from the table of keys."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from itertools import combinations

from pilot_agent.config_keys import (
    IMAGE_FIELDS,
    KEYS,
    LARGEST_PORT,
    READY_WAYS,
    SERVICE_FIELDS,
    SERVICE_NAME,
    Key,
    Kind,
)
from pilot_agent.model import Json

_SECTION_SCHEMA: Mapping[str, Json] = {"type": ["object", "null"], "additionalProperties": False}


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
        schema["pattern"] = "^(?i:" + "|".join(key.choices) + ")$"
    if key.minimum is not None:
        schema["minimum"] = key.minimum
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
            requirement = _fields_schema({"require": Kind.STRING, "level": Kind.STRING}, ["require"])
            return {"type": "array", "items": {"anyOf": [{"type": "string"}, requirement]}}
        case Kind.IMAGES:
            candidate = {"anyOf": [{"type": "string"}, _fields_schema(IMAGE_FIELDS, ["path"])]}
            return {"type": "object", "additionalProperties": {"type": "array", "items": candidate}}
        case Kind.SERVICES:
            names = {"pattern": f"^{SERVICE_NAME}$"}
            return {"type": "object", "propertyNames": names, "additionalProperties": _service_schema()}
        case Kind.WEIGHTED:
            return {"type": ["string", "boolean"]}
        case Kind.CORES:
            return {"type": ["integer", "string"]}
        case Kind.MAPPING:
            return {"type": "object"}
        case _:
            return {"type": kind.value}


def _service_schema() -> Json:
    schema = _fields_schema(SERVICE_FIELDS, ["command"])
    fields = schema["properties"]
    fields["command"]["minItems"] = 1
    fields["port"] |= {"minimum": 1, "maximum": LARGEST_PORT}
    fields["stop_signal"]["pattern"] = f"^(?i:{'|'.join(f'(SIG)?{name[3:]}' for name in signal.Signals.__members__)})$"
    # Two ways count only when neither is an empty text or list.
    given = {name: {"required": [name], "properties": {name: {"minLength": 1, "minItems": 1}}} for name in READY_WAYS}
    pairs = combinations(READY_WAYS, 2)
    return {**schema, "allOf": [{"not": {"allOf": [given[one], given[other]]}} for one, other in pairs]}


def _fields_schema(fields: Mapping[str, Kind], needed: list[str]) -> Json:
    properties = {name: _kind_schema(kind) for name, kind in fields.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": needed}
