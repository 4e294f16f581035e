"""Where layers come from: files in YAML or JSON, the environment, the command line."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterable, Mapping

from pilot_agent.config import Layer, put
from pilot_agent.config_keys import KEYS, LAYERS
from pilot_agent.config_values import type_name
from pilot_agent.files import read_bounded
from pilot_agent.model import Failure, FailureKind, Json, PilotError

ENVIRONMENT_PREFIX = "PILOT_AGENT_"
FILE_LAYERS = LAYERS[1:-2]
FILE_LIMIT_BYTES = 1 << 20
"""PyYAML takes a second and more for a MiB that is written to cost time."""
WHOLE_LIMIT = 1 << 20
"""Characters and values of a document with its aliases written out."""
_PATHS = frozenset(key.path for key in KEYS)
_WITHOUT_DOT = {path.replace(".", "_"): path for path in _PATHS if "." in path}


def read_layer(name: str, path: str) -> Layer:
    """One layer from a YAML or JSON file. Raises ``PilotError`` (config.unreadable, config.syntax)."""
    if name not in FILE_LAYERS:
        known = ", ".join(FILE_LAYERS)
        raise PilotError(Failure(FailureKind.USAGE, "usage", f"{name!r} is no configuration layer; known: {known}"))
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            # A pipe whose writer has not begun looks empty, and a site's limits would be lost without a word.
            raise OSError(errno.EINVAL, "it is no regular file")
        content = read_bounded(path, limit_bytes=FILE_LIMIT_BYTES + 1)
    except OSError as error:
        raise PilotError(
            Failure(
                FailureKind.CONFIG,
                "config.unreadable",
                f"the {name} configuration {path} cannot be read: {error.strerror}",
                hint="name an existing file that the pilot's account may read",
            )
        ) from error
    if len(content) > FILE_LIMIT_BYTES:
        message = f"the {name} configuration {path} is larger than {FILE_LIMIT_BYTES >> 10} KiB"
        hint = "split it, or let a plugin declare what it lists"
        raise PilotError(Failure(FailureKind.CONFIG, "config.unreadable", message, hint))
    return Layer(name, parse_document(content, path), path)


def parse_document(content: bytes, source: str) -> dict[str, Json]:
    """The mapping in a YAML or JSON text; duplicate keys are refused. Raises ``PilotError`` (config.syntax)."""
    try:
        text = content.decode("utf-8")
        document = json.loads(text, object_pairs_hook=_no_duplicates) if text[:1] == "{" else _parse_yaml(text)
        _refuse_multiplied(document)
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        # PyYAML raises the middle three for a tag on a text of another kind, such as `!!int ""`.
        message = f"{source} is not valid: {error}"
        hint = "correct the file; it must be one YAML or JSON mapping"
        raise PilotError(Failure(FailureKind.CONFIG, "config.syntax", message, hint)) from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        message = f"{source} holds {type_name(document)} where a mapping of keys is needed"
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
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(place + " ".join(filter(None, (error.context, error.problem)))) from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _refuse_multiplied(document: Json) -> None:
    """Refuse a document whose aliases make it much larger than its text: each part is loaded once, but whoever walks
    through it meets it as often as it is named. Raises ``ValueError``; ``RecursionError`` for one that is too deep."""
    sizes: dict[int, int] = {}

    def size(value: Json) -> int:
        if isinstance(value, str | bytes):
            return 1 + len(value)
        if not isinstance(value, dict | list | tuple):
            return 1
        if id(value) not in sizes:
            inner = [*value, *value.values()] if isinstance(value, dict) else value
            sizes[id(value)] = 1 + sum(map(size, inner))
        return sizes[id(value)]

    if size(document) > WHOLE_LIMIT:
        raise ValueError(f"with its aliases written out it holds more than {WHOLE_LIMIT} characters and values")


def environment_layer(environment: Mapping[str, str]) -> Layer:
    """The layer made of ``PILOT_AGENT_SECTION__KEY`` variables, and ``PILOT_AGENT_KEY`` for a key without a section;
    other ``PILOT_AGENT_`` names are the payload's own. Raises ``PilotError`` (config.invalid), also for a name that
    lacks nothing but the second underscore."""
    document: dict[str, Json] = {}
    for name, text in sorted(environment.items()):
        path = name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".", 1)
        if name.startswith(ENVIRONMENT_PREFIX) and ("__" in name or path in _PATHS):
            put(document, path, _scalar(text))
        elif name.startswith(ENVIRONMENT_PREFIX) and path in _WITHOUT_DOT:
            meant = ENVIRONMENT_PREFIX + _WITHOUT_DOT[path].replace(".", "__").upper()
            message, hint = f"{name} names no key; did you mean {meant}?", "two underscores follow the section's name"
            raise PilotError(Failure(FailureKind.CONFIG, "config.invalid", message, hint))
    return Layer("environment", document)


def command_line_layer(assignments: Iterable[str], requirements: Iterable[str] = ()) -> Layer:
    """The layer made of ``--set section.key=value`` and ``--require`` arguments. Raises ``PilotError`` (usage,
    config.invalid)."""
    document: dict[str, Json] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise PilotError(Failure(FailureKind.USAGE, "usage", f"--set {assignment}: expected section.key=value"))
        put(document, path.strip(), _scalar(text))
    required = list(requirements)
    if required:
        listed = document.get("requirements", [])
        document["requirements"] = [*(listed if isinstance(listed, list) else [listed]), *required]
    return Layer("command line", document)


def _scalar(text: str) -> Json:
    """JSON where the text is JSON, else the text itself, so that ``--set site.name=X`` needs no quotes."""
    try:
        return json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text
