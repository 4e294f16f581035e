"""Programs that VO and site configure in place of a plugin: fields of setups, checks, periodic tests and benchmarks.

Everything here speaks of one entry; where it stands in a document is the business of ``config_check``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pilot_agent.config_kinds import SERVICE_NAME, WHERE, Kind
from pilot_agent.model import FailureKind, Json
from pilot_agent.spelling import nearest

_COMMON: dict[str, Kind] = {
    "name": Kind.STRING,
    "command": Kind.STRINGS,
    "script": Kind.STRING,
    "where": Kind.STRING,
    "platform": Kind.STRING,
    "timeout_seconds": Kind.NUMBER,
}

PROGRAM_FIELDS: dict[Kind, dict[str, Kind]] = {
    Kind.PROBES: {
        **{name: kind for name, kind in _COMMON.items() if name not in ("where", "platform")},
        "gives": Kind.STRINGS,
        "requires": Kind.STRINGS,
        "protocol": Kind.STRING,
    },
    Kind.SETUPS: {
        **_COMMON,
        "protocol": Kind.STRING,
        "stage": Kind.STRING,
        "required": Kind.BOOLEAN,
        "teardown": Kind.STRINGS,
        "teardown_seconds": Kind.NUMBER,
    },
    Kind.CHECKS: {**_COMMON, "protocol": Kind.STRING, "required": Kind.BOOLEAN, "kind": Kind.STRING},
    Kind.PERIODICS: {**_COMMON, "period_seconds": Kind.NUMBER, "on_failure": Kind.STRING},
    Kind.BENCHMARKS: {
        **_COMMON,
        "result": Kind.STRING,
        "score_at": Kind.STRING,
        "parts_at": Kind.STRING,
        "unit": Kind.STRING,
        "cores": Kind.STRING,
        "when": Kind.STRING,
        "period_seconds": Kind.NUMBER,
        "memory_mib": Kind.INTEGER,
        "disk_mib": Kind.INTEGER,
        "version": Kind.STRING,
        "cache_days": Kind.NUMBER,
    },
}
"""Fields of one entry of ``vo.probes``, ``vo.setups``, ``vo.checks``, ``vo.periodics``, ``vo.benchmarks``, and of those
of the site."""

PROGRAM_NEEDS: dict[Kind, tuple[str, ...]] = {
    Kind.PROBES: ("name", "gives"),
    Kind.SETUPS: ("name",),
    Kind.CHECKS: ("name",),
    Kind.PERIODICS: ("name", "period_seconds"),
    Kind.BENCHMARKS: ("name", "timeout_seconds"),
}
"""The fields that an entry must have, beside ``command`` or ``script``."""

CHECK_KINDS = tuple(
    str(kind) for kind in FailureKind if kind not in (FailureKind.USAGE, FailureKind.INTERNAL, FailureKind.PREEMPTED)
)
"""Who is to act when a configured check fails."""

_WORDS: dict[str, tuple[str, ...]] = {
    "where": WHERE,
    "stage": ("early", "late"),
    "kind": CHECK_KINDS,
    "on_failure": ("report", "stop_accepting", "drain"),
    "cores": ("one", "all", "slot"),
    "when": ("before", "beside", "periodic"),
    "protocol": ("pilot", "json", "nagios"),
}
_LISTS = ("command", "teardown")
_SMALLEST_PERIOD_SECONDS = 1
_EARLY_IMAGE = "no image is chosen before the container stage: inside one a setup is late"


def entry_problems(entry: Mapping[str, Json]) -> list[tuple[str, str]]:
    """(field, message) of what is wrong with an entry whose fields have the right types."""
    problems = [
        (name, f"{entry[name]!r} is none of {', '.join(words)}{nearest(entry[name], words)}")
        for name, words in _WORDS.items()
        if name in entry and entry[name] not in words
    ]
    if not re.fullmatch(SERVICE_NAME, entry["name"]):
        problems.append(
            ("name", f"{entry['name']!r} is no name: letters, digits and . _ - only, a letter or digit first")
        )
    problems += [
        (name, "is empty; the first word is the program") for name in _LISTS if name in entry and not entry[name]
    ]
    if not ("command" in entry or "script" in entry):
        problems.append(("command", "missing; command (a list of words), script, or both are needed"))
    if entry.get("script") == "":
        problems.append(("script", "is empty; a path, or a text that begins with #! is needed"))
    for name in ("timeout_seconds", "teardown_seconds"):
        if name in entry and not entry[name] > 0:
            problems.append((name, f"{entry[name]} is no time: it must be more than 0"))
    if entry.get("period_seconds", _SMALLEST_PERIOD_SECONDS) < _SMALLEST_PERIOD_SECONDS:
        problems.append(("period_seconds", f"{entry['period_seconds']} is less than {_SMALLEST_PERIOD_SECONDS}"))
    if entry.get("stage") == "early" and entry.get("where") == "image":
        problems.append(("stage", _EARLY_IMAGE))
    return problems


def entry_schema(schema: dict[str, Json]) -> dict[str, Json]:
    """The JSON Schema of an entry, from that of its fields alone: it takes what ``entry_problems`` takes."""
    limits: dict[str, dict[str, Json]] = {
        "name": {"pattern": rf"^{SERVICE_NAME}(?![\s\S])"},
        "script": {"minLength": 1},
        "timeout_seconds": {"exclusiveMinimum": 0},
        "teardown_seconds": {"exclusiveMinimum": 0},
        "period_seconds": {"minimum": _SMALLEST_PERIOD_SECONDS},
        **{name: {"minItems": 1} for name in _LISTS},
        **{name: {"enum": list(words)} for name, words in _WORDS.items()},
    }
    fields = {name: {**field, **limits.get(name, {})} for name, field in schema["properties"].items()}
    early_image = {"stage": {"const": "early"}, "where": {"const": "image"}}
    return {
        **schema,
        "properties": fields,
        "anyOf": [{"required": ["command"]}, {"required": ["script"]}],
        "not": {"required": ["stage", "where"], "properties": early_image},
    }
