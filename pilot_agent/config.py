"""Layers of configuration -> one validated document that knows where each value came from."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pilot_agent.config_check import Problem, invalid, service_entry_problems, validate
from pilot_agent.config_images import flattened
from pilot_agent.config_keys import KEYS, LAYERS
from pilot_agent.config_kinds import Key, Kind
from pilot_agent.config_values import type_name
from pilot_agent.model import Failure, FailureKind, Json, PilotError


@dataclass(frozen=True, slots=True)
class Layer:
    """One document and the name of the layer it stands for; ``source`` is its file or ``--set``."""

    name: str
    document: Mapping[str, Json]
    source: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """The effective configuration. ``values`` is nested, every declared key present; ``origins`` maps each key's
    path to the layers that gave its value, ``members`` the path of each member (``services.NAME.FIELD``) of a key that
    is merged to the one layer that gave that."""

    values: Mapping[str, Json]
    origins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    members: Mapping[str, str] = field(default_factory=dict)

    def layer_of(self, path: str) -> str:
        """The layer that gave a member of a merged key, or what stands around it; all that gave the key otherwise."""
        while path not in self.members and path.count(".") > 1:
            path = path.rpartition(".")[0]
        return self.members.get(path) or ", ".join(self.origins.get(path.rpartition(".")[0], ()))

    def get(self, path: str) -> Any:
        """The value of one declared key."""
        section, _, name = path.partition(".")
        return self.values[section][name] if name else self.values[section]


def load_config(layers: Iterable[Layer]) -> Config:
    """Validate and merge. Raises ``PilotError`` (config.invalid) that names every problem."""
    ordered = sorted(layers, key=lambda layer: LAYERS.index(layer.name))
    problems = [problem for layer in ordered for problem in validate(layer.document, layer.name)]
    if problems:
        raise invalid(problems)
    values: dict[str, Json] = {}
    origins: dict[str, tuple[str, ...]] = {}
    members: dict[str, str] = {}
    for key in KEYS:
        given = [(layer.name, value) for layer in ordered if (value := _lookup(layer.document, key.path)) is not None]
        problems += [_not_its_own(key, name) for name, _ in given if key.layers and name not in key.layers]
        if key.kind is Kind.IMAGES:
            given = [(name, flattened(value)) for name, value in given]
        value, origin = _combine(key, given)
        if key.combine == "merge":
            value = _merged(key.path, given, members)
        put(values, key.path, value)
        origins[key.path] = origin
    if problem := _vacate_problem(values["time"], origins):
        problems.append(problem)
    used = tuple(f"{layer.name}:{layer.source}" if layer.source else layer.name for layer in ordered)
    config = Config(values, origins, used, members)
    problems += _put_together_problems(config)
    if problems:
        raise invalid(problems)
    return config


def _merged(path: str, given: list[tuple[str, Json]], members: dict[str, str]) -> dict[str, dict[str, Json]]:
    """Name -> field -> value of several layers; a stronger one adds fields to what weaker ones say of the same name, or
    takes their place. ``members`` is told which layer each came from. A whole service is not mixed with another one."""
    found: dict[str, Json] = {}
    for layer, entries in given:
        for name, entry in entries.items():
            place = f"{path}.{name}"
            earlier = found.get(name)
            adds = isinstance(entry, Mapping | None) and isinstance(earlier, Mapping | None)
            if not adds or (path == "services" and "command" in (entry or {})):
                for old in [one for one in members if one.startswith(f"{place}.")]:
                    del members[old]
                earlier = None
            members[place] = layer
            members.update((f"{place}.{field}", layer) for field in (entry if isinstance(entry, Mapping) else ()))
            found[name] = {**(earlier or {}), **(entry or {})} if adds and (earlier or path == "services") else entry
    return found


def _put_together_problems(config: Config) -> list[Problem]:
    """Of services to which a stronger layer added something: each layer was right by itself."""
    return [
        Problem(path, config.layer_of(path), message)
        for name, entry in config.values["services"].items()
        if "command" in entry and len({one for place, one in config.members.items() if _is_below(place, name)}) > 1
        for path, message in service_entry_problems(entry, f"services.{name}")
    ]


def _is_below(place: str, service: str) -> bool:
    return place.startswith(f"services.{service}.")


def _not_its_own(key: Key, layer: str) -> Problem:
    return Problem(key.path, layer, f"only {', '.join(key.layers)} may say it; take it out of this one")


def _vacate_problem(time: Mapping[str, Json], origins: Mapping[str, tuple[str, ...]]) -> Problem | None:
    """Jobs cannot get more time to end than everything together has. What nobody asked for is cut without a word."""
    given, budget = origins["time.vacate_seconds"], origins["time.teardown_seconds"]
    if time["vacate_seconds"] <= time["teardown_seconds"] or given == ("defaults",):
        return None
    message = (
        f"{time['vacate_seconds']:g} s for jobs to end is more than the {time['teardown_seconds']:g} s that "
        f"time.teardown_seconds ({', '.join(budget)}) gives to everything; give less here, or more there"
    )
    return Problem("time.vacate_seconds", ", ".join(given), message)


def _combine(key: Key, given: list[tuple[str, Json]]) -> tuple[Json, tuple[str, ...]]:
    if not given:
        return copy.deepcopy(key.default), ("defaults",)
    origins = tuple(name for name, _ in given)
    match key.combine:
        case "smallest":
            smallest = min(value for _, value in given)
            return smallest, tuple(name for name, value in given if value == smallest)
        case "strictest":
            return _strictest(key, given)
        case "append":
            return [item for _, value in given for item in value], origins
        case "all":
            return [{"layer": name, "value": value} for name, value in given], origins
        case "join" | "merge":
            return {name: item for _, value in given for name, item in value.items()}, origins
        case _:
            return given[-1][1], (given[-1][0],)


def _strictest(key: Key, given: list[tuple[str, Json]]) -> tuple[Json, tuple[str, ...]]:
    """The smallest number, which bounds more than any word does; without one the word that is first in ``choices``."""

    def rank(value: Json) -> tuple[int, int]:
        return (1, key.choices.index(value.lower())) if isinstance(value, str) else (0, value)

    strictest = min((value for _, value in given), key=rank)
    return strictest, tuple(name for name, value in given if rank(value) == rank(strictest))


def _lookup(document: Mapping[str, Json], path: str) -> Json:
    section, _, name = path.partition(".")
    value = document.get(section)
    return value.get(name) if name and isinstance(value, Mapping) else (None if name else value)


def put(values: dict[str, Json], path: str, value: Json) -> None:
    """Set the key ``path``, or a member of a merged key, in a document. Raises ``PilotError`` (config.invalid) when its
    section, or what the member is in, already has a value of its own."""
    whole = next((key for key in _MERGED if path.startswith(f"{key}.")), None)
    if whole is not None:
        names = path.removeprefix(f"{whole}.").split(".")
        for depth in range(len(names)):
            values = _inside(values, whole if depth == 0 else names[depth - 1], path)
        values[names[-1]] = value
        return
    section, _, name = path.partition(".")
    if name:
        part = values.setdefault(section, {})
        if not isinstance(part, dict):
            message = f"{path} and {section} are both given, and {section} is {type_name(part)}"
            raise PilotError(Failure(FailureKind.CONFIG, "config.invalid", message, hint="give one of the two"))
        part[name] = value
    else:
        values[section] = value


_MERGED = tuple(key.path for key in KEYS if key.combine == "merge")


def _inside(values: dict[str, Json], name: str, path: str) -> dict[str, Json]:
    """The mapping at ``name``, which may be the path of a key."""
    for part in name.split("."):
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            message = f"{path} and {part} are both given, and {part} is {type_name(inner)}"
            raise PilotError(Failure(FailureKind.CONFIG, "config.invalid", message, hint="give one of the two"))
        values = inner
    return values
