"""Probes, setups, checks, periodic tests and benchmarks that VO and site configure: programs, for who writes no plugin.

Each is declared as a plugin would declare it, under the name ``vo.NAME`` or ``site.NAME``, which the report then gives.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from pilot_agent.config_check import Problem, invalid
from pilot_agent.config_kinds import Kind
from pilot_agent.config_programs import PROGRAM_FIELDS
from pilot_agent.hookspecs import Benchmark, Check, Periodic, Probe, Setup, hookimpl
from pilot_agent.model import FailureKind, Json
from pilot_agent.programs import ProgramError, is_text, settled

FOREIGN_LAYERS = {"site": "vo", "vo": "site"}
"""Whose programs -> the layer that must not name them: nobody speaks for the other."""

T = TypeVar("T")
Entries = Iterable[tuple[str, str, str, Mapping[str, Json]]]
"""Path, layer, the record's name, and the entry."""


@hookimpl
def pilot_probes(config: Mapping[str, Json]) -> Iterable[Probe]:
    """Those of the site and of the VO."""
    yield from _records(config, "probes", _probe)


@hookimpl
def pilot_setups(config: Mapping[str, Json]) -> Iterable[Setup]:
    """Those of the site, then those of the VO, each after the one before it."""
    previous: dict[str, str] = {}
    for record in _records(config, "setups", _setup):
        yield replace(record, after=(previous[record.stage],) if record.stage in previous else ())
        previous[record.stage] = record.name


@hookimpl
def pilot_checks(config: Mapping[str, Json]) -> Iterable[Check]:
    """Those of the site and of the VO."""
    yield from _records(config, "checks", _check)


@hookimpl
def pilot_periodics(config: Mapping[str, Json]) -> Iterable[Periodic]:
    """Those of the site and of the VO."""
    yield from _records(config, "periodics", _periodic)


@hookimpl
def pilot_benchmarks(config: Mapping[str, Json]) -> Iterable[Benchmark]:
    """Those of the site and of the VO, unless ``benchmarks.enabled`` is false."""
    if config["benchmarks"]["enabled"]:
        yield from _records(config, "benchmarks", _benchmark)


def _records(config: Mapping[str, Json], what: str, make: Callable[[str, Mapping[str, Json]], T]) -> list[T]:
    """Raises ``PilotError`` (config.invalid) for what can never run, with its place."""
    records: list[T] = []
    problems: list[Problem] = []
    owners: dict[str, str] = {}
    for path, layer, name, entry in _entries(config, what):
        section = path.partition(".")[0]
        if layer == FOREIGN_LAYERS[section]:
            message = f"the file of the {layer} cannot say what the {section} runs; {layer}.{what} is its own"
            problems.append(Problem(path, layer, message))
        elif name in owners:
            problems.append(Problem(f"{path}.name", layer, f"{entry['name']!r} is the name of {owners[name]} too"))
        else:
            owners[name] = path
            try:
                records.append(settled(make(name, entry), None))
            except ProgramError as error:
                problems.append(Problem(path, layer, str(error)))
    if problems:
        raise invalid(problems)
    return records


def _entries(config: Mapping[str, Json], what: str) -> Iterator[tuple[str, str, str, Mapping[str, Json]]]:
    for section in ("site", "vo"):
        for layer in config[section][what] or ():
            for index, entry in enumerate(layer["value"]):
                yield f"{section}.{what}[{index}]", layer["layer"], f"{section}.{entry['name']}", entry


def _probe(name: str, entry: Mapping[str, Json]) -> Probe:
    gives, requires = tuple(entry["gives"]), tuple(entry.get("requires", ()))
    return Probe(**_common(name, entry, "timeout_seconds", "protocol"), gives=gives, requires=requires)


def _setup(name: str, entry: Mapping[str, Json]) -> Setup:
    return Setup(
        **_common(name, entry, "timeout_seconds", "protocol", "stage", "required", "teardown_seconds"),
        teardown=_words(entry, "teardown"),
    )


def _check(name: str, entry: Mapping[str, Json]) -> Check:
    kind = FailureKind(entry.get("kind", FailureKind.NODE_RESOURCE))
    return Check(**_common(name, entry, "timeout_seconds", "protocol", "required"), kind=kind)


def _periodic(name: str, entry: Mapping[str, Json]) -> Periodic:
    return Periodic(**_common(name, entry, "timeout_seconds", "period_seconds", "on_failure"))


def _benchmark(name: str, entry: Mapping[str, Json]) -> Benchmark:
    return Benchmark(
        **_common(name, entry, *(field for field in PROGRAM_FIELDS[Kind.BENCHMARKS] if field not in _OF_ALL))
    )


_OF_ALL = ("name", "command", "script", "where", "platform")


def _common(name: str, entry: Mapping[str, Json], *fields: str) -> dict[str, Any]:
    """The arguments of a record: what all of them have, and those of ``fields`` that were given."""
    given = {field: entry[field] for field in ("where", "platform", *fields) if field in entry}
    return {"name": name, "command": _words(entry, "command"), "script": _script(entry), **given}


def _words(entry: Mapping[str, Json], field: str) -> tuple[str, ...]:
    words = tuple(entry.get(field, ()))
    if any("\0" in word for word in words):
        raise ProgramError(f"{field} has a zero byte, which no program can be given")
    return words


def _script(entry: Mapping[str, Json]) -> str | None:
    """The text itself, or the absolute path; a relative one begins at the start directory, as that of the token."""
    script: str | None = entry.get("script")
    if script is None or is_text(script):
        return script
    if "\0" in script:
        raise ProgramError("script has a zero byte, which no path has")
    try:
        return os.path.abspath(script)
    except OSError as error:
        raise ProgramError(f"script {script!r} cannot be found from the start directory: {error.strerror}") from error
