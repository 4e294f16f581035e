"""Layers of configuration -> one validated document that knows where each value came from.

All problems are reported together, each with its path, its layer and, for an unknown key, the nearest known one.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pilot_agent.config_keys import IMAGE_FIELDS, KEYS, LAYERS, SERVICE_FIELDS, Key, Kind
from pilot_agent.files import read_bounded
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.requirements import LEVELS, REQUIRED, RequirementError, parse

ENVIRONMENT_PREFIX = "PILOT_AGENT_"
FILE_LAYERS = LAYERS[1:-2]
_BY_PATH = {key.path: key for key in KEYS}
_SECTIONS = {key.path.split(".")[0] for key in KEYS if "." in key.path}


@dataclass(frozen=True, slots=True)
class Layer:
    """One document and the name of the layer it stands for; ``source`` is its file or ``--set``."""

    name: str
    document: Mapping[str, Json]
    source: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the configuration."""

    path: str
    layer: str
    message: str

    def __str__(self) -> str:
        return f"{self.path} ({self.layer}): {self.message}"


@dataclass(frozen=True, slots=True)
class Config:
    """The effective configuration. ``values`` is nested, every declared key present; ``origins`` maps each key's
    path to the layers that gave its value."""

    values: Mapping[str, Json]
    origins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    layers: tuple[str, ...] = ()

    def get(self, path: str) -> Any:
        """The value of one declared key."""
        section, _, name = path.partition(".")
        return self.values[section][name] if name else self.values[section]


def load_config(layers: Iterable[Layer]) -> Config:
    """Validate and merge. Raises ``PilotError`` (config.invalid) that names every problem."""
    ordered = sorted(layers, key=lambda layer: LAYERS.index(layer.name))
    problems = [problem for layer in ordered for problem in validate(layer)]
    if problems:
        raise invalid(problems)
    values: dict[str, Json] = {}
    origins: dict[str, tuple[str, ...]] = {}
    for key in KEYS:
        given = [(layer.name, value) for layer in ordered if (value := _lookup(layer.document, key.path)) is not None]
        value, origin = _combine(key, given)
        _store(values, key.path, value)
        origins[key.path] = origin
    used = tuple(f"{layer.name}:{layer.source}" if layer.source else layer.name for layer in ordered)
    return Config(values, origins, used)


def invalid(problems: Sequence[Problem]) -> PilotError:
    """The error for a configuration with these problems."""
    count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
    return PilotError(
        Failure(
            FailureKind.CONFIG,
            "config.invalid",
            f"the configuration has {count}: " + "; ".join(map(str, problems)),
            hint="correct the named keys; `pilot-agent config reference` lists all keys",
        )
    )


def validate(layer: Layer) -> list[Problem]:
    """Everything wrong with one layer."""
    problems: list[Problem] = []
    for name, value in layer.document.items():
        if name in _BY_PATH:
            problems += _check(_BY_PATH[name], value, layer.name)
        elif name not in _SECTIONS:
            problems.append(
                Problem(str(name), layer.name, "unknown key" + _nearest(str(name), [*_SECTIONS, *_BY_PATH]))
            )
        elif value is None:  # a section with nothing but comments in it
            continue
        elif not isinstance(value, Mapping):
            problems.append(Problem(name, layer.name, f"expected a mapping, found {_type_name(value)}"))
        else:
            problems += _validate_section(name, value, layer.name)
    return problems


def _validate_section(section: str, values: Mapping[str, Json], layer: str) -> list[Problem]:
    problems: list[Problem] = []
    for name, value in values.items():
        path = f"{section}.{name}"
        if path in _BY_PATH:
            problems += _check(_BY_PATH[path], value, layer)
        else:
            known = [key.path for key in KEYS if key.path.startswith(f"{section}.")]
            problems.append(Problem(path, layer, "unknown key" + _nearest(path, known)))
    return problems


def _check(key: Key, value: Json, layer: str) -> list[Problem]:
    if value is None:
        return []
    problems = [Problem(path, layer, message) for path, message in _type_problems(key.kind, value, key.path)]
    if problems:
        return problems
    if key.choices and str(value).lower() not in key.choices:
        expected = ", ".join(key.choices)
        return [Problem(key.path, layer, f"{value!r} is none of {expected}{_nearest(str(value), key.choices)}")]
    if key.minimum is not None and value < key.minimum:
        return [Problem(key.path, layer, f"{value} is less than {key.minimum:g}")]
    return []


def _type_problems(kind: Kind, value: Json, path: str) -> list[tuple[str, str]]:
    """(path, message) of everything in ``value`` that is not of ``kind``."""
    match kind:
        case Kind.STRINGS:
            return _sequence_problems(value, path, lambda item, where: _type_problems(Kind.STRING, item, where))
        case Kind.STRING_MAPPING:
            return _mapping_problems(value, path, lambda item, where: _type_problems(Kind.STRING, item, where))
        case Kind.REQUIREMENTS:
            return _sequence_problems(value, path, _requirement_problems)
        case Kind.IMAGES:
            return _mapping_problems(
                value, path, lambda item, where: _sequence_problems(item, where, _candidate_problems)
            )
        case Kind.SERVICES:
            return _mapping_problems(
                value, path, lambda item, where: _record_problems(item, where, SERVICE_FIELDS, ("command",))
            )
        case Kind.MAPPING if isinstance(value, Mapping):
            return _plain_problems(value, path)
        case _:
            return [] if _is_scalar(kind, value) else [(path, f"expected {_article(kind)}, found {_type_name(value)}")]


def _is_scalar(kind: Kind, value: Json) -> bool:
    match kind:
        case Kind.STRING:
            return isinstance(value, str)
        case Kind.INTEGER:
            return isinstance(value, int) and not isinstance(value, bool)
        case Kind.NUMBER:
            return isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)
        case Kind.BOOLEAN:
            return isinstance(value, bool)
        case Kind.WEIGHTED:
            return isinstance(value, str | bool)
        case _:
            return False


def _is_finite(value: float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def _plain_problems(value: Json, path: str) -> list[tuple[str, str]]:
    """What in a free-form value JSON cannot hold: YAML also has dates, binary data, sets, infinity, names of any
    type."""
    problems: list[tuple[str, str]] = []
    left: list[tuple[Json, str]] = [(value, path)]
    while left:
        item, where = left.pop()
        if isinstance(item, Mapping):
            problems += _name_problems(item, where)
            left += [(inner, f"{where}.{name}") for name, inner in item.items()]
        elif isinstance(item, list):
            left += [(inner, f"{where}[{index}]") for index, inner in enumerate(item)]
        elif isinstance(item, float) and not math.isfinite(item):
            problems.append((where, f"expected a finite number, found {item}"))
        elif not isinstance(item, str | int | float | None):
            problems.append((where, f"expected a plain value, found a {type(item).__name__}; quote it"))
    return problems


def _name_problems(value: Mapping[Any, Json], path: str) -> list[tuple[str, str]]:
    return [
        (f"{path}.{name}", f"a name must be a string, found {_type_name(name)}; quote it")
        for name in value
        if not isinstance(name, str)
    ]


def _sequence_problems(value: Json, path: str, check: Any) -> list[tuple[str, str]]:
    if not isinstance(value, list):
        return [(path, f"expected a list, found {_type_name(value)}")]
    return [problem for index, item in enumerate(value) for problem in check(item, f"{path}[{index}]")]


def _mapping_problems(value: Json, path: str, check: Any) -> list[tuple[str, str]]:
    if not isinstance(value, Mapping):
        return [(path, f"expected a mapping, found {_type_name(value)}")]
    problems = _name_problems(value, path)
    return problems + [problem for name, item in value.items() for problem in check(item, f"{path}.{name}")]


def _record_problems(
    value: Json, path: str, fields: Mapping[str, Kind], needed: tuple[str, ...]
) -> list[tuple[str, str]]:
    if not isinstance(value, Mapping):
        return [(path, f"expected a mapping, found {_type_name(value)}")]
    problems = [(f"{path}.{name}", "missing") for name in needed if name not in value]
    for name, item in value.items():
        if name in fields:
            problems += _type_problems(fields[name], item, f"{path}.{name}")
        else:
            problems.append((f"{path}.{name}", "unknown key" + _nearest(str(name), fields)))
    return problems


def _candidate_problems(value: Json, path: str) -> list[tuple[str, str]]:
    return [] if isinstance(value, str) else _record_problems(value, path, IMAGE_FIELDS, ("path",))


def _requirement_problems(value: Json, path: str) -> list[tuple[str, str]]:
    if not isinstance(value, str):
        problems = _record_problems(value, path, {"require": Kind.STRING, "level": Kind.STRING}, ("require",))
        if problems:
            return problems
        level = value.get("level") or REQUIRED
        if level not in LEVELS:
            return [(f"{path}.level", f"{level!r} is none of {', '.join(LEVELS)}{_nearest(level, LEVELS)}")]
        value = value["require"]
    try:
        parse(value)
    except RequirementError as error:
        return [(path, error.failure.message)]
    return []


def _combine(key: Key, given: list[tuple[str, Json]]) -> tuple[Json, tuple[str, ...]]:
    if not given:
        return copy.deepcopy(key.default), ("defaults",)
    origins = tuple(name for name, _ in given)
    match key.combine:
        case "smallest":
            smallest = min(value for _, value in given)
            return smallest, tuple(name for name, value in given if value == smallest)
        case "append":
            return [item for _, value in given for item in value], origins
        case "join":
            return {name: item for _, value in given for name, item in value.items()}, origins
        case _:
            return given[-1][1], (given[-1][0],)


def _lookup(document: Mapping[str, Json], path: str) -> Json:
    section, _, name = path.partition(".")
    value = document.get(section)
    return value.get(name) if name and isinstance(value, Mapping) else (None if name else value)


def _store(values: dict[str, Json], path: str, value: Json) -> None:
    section, _, name = path.partition(".")
    if name:
        part = values.setdefault(section, {})
        if not isinstance(part, dict):
            message = f"{path} and {section} are both given, and {section} is {_type_name(part)}"
            raise PilotError(Failure(FailureKind.CONFIG, "config.invalid", message, hint="give one of the two"))
        part[name] = value
    else:
        values[section] = value


def _nearest(word: str, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _article(kind: Kind) -> str:
    return f"an {kind.value}" if kind.value[0] in "aeiou" else f"a {kind.value}"


def _type_name(value: Json) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    names = {"str": "a string", "int": "an integer", "float": "a number", "bool": "a boolean", "NoneType": "nothing"}
    names |= {"list": "a list", "dict": "a mapping"}
    return names.get(type(value).__name__, type(value).__name__)


def read_layer(name: str, path: str) -> Layer:
    """One layer from a YAML or JSON file. Raises ``PilotError`` (config.unreadable, config.syntax)."""
    if name not in FILE_LAYERS:
        known = ", ".join(FILE_LAYERS)
        raise PilotError(Failure(FailureKind.USAGE, "usage", f"{name!r} is no configuration layer; known: {known}"))
    try:
        content = read_bounded(path, limit_bytes=4 << 20)
    except OSError as error:
        raise PilotError(
            Failure(
                FailureKind.CONFIG,
                "config.unreadable",
                f"the {name} configuration {path} cannot be read: {error.strerror}",
                hint="name an existing file that the pilot's account may read",
            )
        ) from error
    return Layer(name, parse_document(content, path), path)


def parse_document(content: bytes, source: str) -> dict[str, Json]:
    """The mapping in a YAML or JSON text; duplicate keys are refused. Raises ``PilotError`` (config.syntax)."""
    try:
        text = content.decode("utf-8")
        document = json.loads(text, object_pairs_hook=_no_duplicates) if text[:1] == "{" else _parse_yaml(text)
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        # PyYAML raises the middle three for a tag on a text of another kind, such as `!!int ""`.
        message = f"{source} is not valid: {error}"
        hint = "correct the file; it must be one YAML or JSON mapping"
        raise PilotError(Failure(FailureKind.CONFIG, "config.syntax", message, hint)) from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        message = f"{source} holds {_type_name(document)} where a mapping of keys is needed"
        raise PilotError(Failure(FailureKind.CONFIG, "config.syntax", message))
    return document


def _no_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    document = dict(pairs)
    if len(document) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} stands twice")
    return document


def _parse_yaml(text: str) -> Json:
    import yaml

    class Loader(yaml.SafeLoader):
        """Safe loading that refuses a key given twice."""

    def construct(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[str, Json]:
        pairs = [(loader.construct_object(k, deep=True), loader.construct_object(v, deep=True)) for k, v in node.value]
        try:
            return _no_duplicates(pairs)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{error} (line {node.start_mark.line + 1})") from None

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, construct)
    try:
        return yaml.load(text, Loader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def environment_layer(environment: Mapping[str, str]) -> Layer:
    """The layer made of ``PILOT_AGENT_SECTION__KEY`` variables, and ``PILOT_AGENT_KEY`` for a key without a section;
    other ``PILOT_AGENT_`` names are the payload's own. Raises ``PilotError`` (config.invalid)."""
    document: dict[str, Json] = {}
    for name, text in sorted(environment.items()):
        path = name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".", 1)
        if name.startswith(ENVIRONMENT_PREFIX) and ("__" in name or path in _BY_PATH):
            _store(document, path, _scalar(text))
    return Layer("environment", document)


def command_line_layer(assignments: Iterable[str]) -> Layer:
    """The layer made of ``--set section.key=value`` arguments. Raises ``PilotError`` (usage, config.invalid)."""
    document: dict[str, Json] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise PilotError(Failure(FailureKind.USAGE, "usage", f"--set {assignment}: expected section.key=value"))
        _store(document, path.strip(), _scalar(text))
    return Layer("command line", document)


def _scalar(text: str) -> Json:
    """JSON where the text is JSON, else the text itself, so that ``--set site.name=X`` needs no quotes."""
    try:
        return json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text


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
            return {"type": "object", "additionalProperties": _fields_schema(SERVICE_FIELDS, ["command"])}
        case Kind.WEIGHTED:
            return {"type": ["string", "boolean"]}
        case Kind.MAPPING:
            return {"type": "object"}
        case _:
            return {"type": kind.value}


def _fields_schema(fields: Mapping[str, Kind], needed: list[str]) -> Json:
    properties = {name: _kind_schema(kind) for name, kind in fields.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties, "required": needed}
