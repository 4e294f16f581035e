"""Bodies of JSON: what is wrong with one, in a line, and how the interface's description shows what belongs there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from pilot_agent.model import Json
from server_stub.factory.texts import shown


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong, with its place; nothing of what was sent."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    first = problems[0]
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"]).lstrip(".")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return shown(f"{place or 'body'}: {first['msg']}{more}")


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a body, complete in itself."""
    schema: dict[str, Json] = model.model_json_schema()
    filled: dict[str, Any] = _inlined(schema, schema.pop("$defs", {}))
    return filled


def _inlined(node: Json, definitions: Mapping[str, Json]) -> Json:
    if isinstance(node, list):
        return [_inlined(one, definitions) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        found = definitions[node["$ref"].rpartition("/")[2]]
        return _inlined({**found, **{name: value for name, value in node.items() if name != "$ref"}}, definitions)
    return {name: _inlined(value, definitions) for name, value in node.items()}
