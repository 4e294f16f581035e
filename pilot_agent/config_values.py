"""What is wrong with values of a configuration whatever their key: what JSON cannot hold, and members of lists and
mappings. Each problem is a path and a message."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pilot_agent.model import Json

Problems = list[tuple[str, str]]

ONE_LINE_LAYERS = ("environment", "command line")
ONE_LINE_FORMS = {
    "expected a list, found a string": '["one", "two"]',
    "expected a mapping, found a string": '{"name": "value"}',
}


def is_finite(value: float) -> bool:
    """False for infinity and what is no number, which JSON has not."""
    return isinstance(value, int) or math.isfinite(value)


def plain_problems(value: Json, path: str) -> Problems:
    """What in a free-form value JSON cannot hold: YAML also has dates, binary data, sets, infinity, names of any
    type."""
    problems: Problems = []
    left: list[tuple[Json, str]] = [(value, path)]
    while left:
        item, where = left.pop()
        if isinstance(item, Mapping):
            problems += name_problems(item, where)
            left += [(inner, f"{where}.{name}") for name, inner in item.items()]
        elif isinstance(item, list):
            left += [(inner, f"{where}[{index}]") for index, inner in enumerate(item)]
        elif isinstance(item, float) and not math.isfinite(item):
            problems.append((where, f"expected a finite number, found {item}"))
        elif not isinstance(item, str | int | float | None):
            problems.append((where, f"expected a plain value, found a {type(item).__name__}; quote it"))
    return problems


def name_problems(value: Mapping[Any, Json], path: str) -> Problems:
    """Names that are no strings."""
    return [
        (f"{path}.{name}", f"a name must be a string, found {type_name(name)}; quote it")
        for name in value
        if not isinstance(name, str)
    ]


def sequence_problems(value: Json, path: str, check: Callable[[Json, str], Problems]) -> Problems:
    """Of a list and, by ``check``, of its members."""
    if not isinstance(value, list):
        return [(path, f"expected a list, found {type_name(value)}")]
    return [problem for index, item in enumerate(value) for problem in check(item, f"{path}[{index}]")]


def mapping_problems(value: Json, path: str, check: Callable[[Json, str], Problems]) -> Problems:
    """Of a mapping and, by ``check``, of its values."""
    if not isinstance(value, Mapping):
        return [(path, f"expected a mapping, found {type_name(value)}")]
    problems = name_problems(value, path)
    return problems + [problem for name, item in value.items() for problem in check(item, f"{path}.{name}")]


def form_wanted(problem: str, value: Json, layer: str, choices: Sequence[str] = ()) -> str:
    """To be added to a problem with the type of a key's value: how the right one is written in this layer, or the
    words that there are to choose from."""
    one_line = layer in ONE_LINE_LAYERS
    if one_line and problem in ONE_LINE_FORMS:
        return f"; write it as JSON: {ONE_LINE_FORMS[problem]}"
    if choices and problem.startswith("expected a string, "):
        return f"; give one of {', '.join(choices)}"
    if problem.startswith("expected a string, ") and isinstance(value, int | float) and not isinstance(value, bool):
        return "; put it in quotes" + (", and these in single ones: '\"...\"'" if one_line else "")
    return ""


def places(value: Json) -> list[tuple[str, Json]]:
    """What a list or a mapping holds, each with its place as it stands in a path: ``[0]``, ``.name``."""
    if isinstance(value, Mapping):
        return [(f".{name}", item) for name, item in value.items()]
    return [(f"[{number}]", item) for number, item in enumerate(value)]


def type_name(value: Json) -> str:
    """The type of a value in words."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    names = {"str": "a string", "int": "an integer", "float": "a number", "bool": "a boolean", "NoneType": "nothing"}
    names |= {"list": "a list", "dict": "a mapping"}
    return names.get(type(value).__name__, type(value).__name__)


def signal_name(given: str) -> str:
    """A signal's whole name: ``SIGTERM`` for ``term``."""
    word = given.upper()
    return word if word.startswith("SIG") else f"SIG{word}"
