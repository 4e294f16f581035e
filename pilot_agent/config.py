"""Layers of configuration -> one validated document that knows where each value came from."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pilot_agent.config_check import Problem, invalid, validate
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
    problems = [problem for layer in ordered for problem in validate(layer.document, layer.name)]
    if problems:
        raise invalid(problems)
    values: dict[str, Json] = {}
    origins: dict[str, tuple[str, ...]] = {}
    for key in KEYS:
        given = [(layer.name, value) for layer in ordered if (value := _lookup(layer.document, key.path)) is not None]
        problems += [_not_its_own(key, name) for name, _ in given if key.layers and name not in key.layers]
        if key.kind is Kind.IMAGES:
            given = [(name, flattened(value)) for name, value in given]
        value, origin = _combine(key, given)
        put(values, key.path, value)
        origins[key.path] = origin
    if problem := _vacate_problem(values["time"], origins):
        problems.append(problem)
    if problems:
        raise invalid(problems)
    used = tuple(f"{layer.name}:{layer.source}" if layer.source else layer.name for layer in ordered)
    return Config(values, origins, used)


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
        case "join":
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
    """Set the key ``path`` in a document. Raises ``PilotError`` (config.invalid) when its section already has a value
    of its own."""
    section, _, name = path.partition(".")
    if name:
        part = values.setdefault(section, {})
        if not isinstance(part, dict):
            message = f"{path} and {section} are both given, and {section} is {type_name(part)}"
            raise PilotError(Failure(FailureKind.CONFIG, "config.invalid", message, hint="give one of the two"))
        part[name] = value
    else:
        values[section] = value
