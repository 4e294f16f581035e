"""Frozen records to JSON and back, so that state and results cross process borders as plain data.

A small decoder instead of a library: the libraries that do this cost 35 ms and more at import, and every
probe's child would pay it.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from pilot_agent.model import Json

T = TypeVar("T")
_AS_THEY_ARE = frozenset({str, int, bool, type(None)})


class CodecError(ValueError):
    """Data that does not fit the record it should become; the message begins with the path to the place."""


def to_json(value: Any) -> Json:
    """The JSON form of records, enums, tuples, sets and mappings, at any depth.

    Raises ``CodecError`` for a value JSON cannot carry.
    """
    # The kinds that nearly all values have come first: the whole state goes through here after every stage.
    kind: type = type(value)
    if kind in _AS_THEY_ARE:
        return value
    if kind is not dict and (names := _field_names(kind)) is not None:
        return {name: to_json(getattr(value, name)) for name in names}
    if kind is dict or isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise CodecError(f"the number {value} cannot become JSON")
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(to_json(item) for item in value)
    raise CodecError(f"a {type(value).__name__} cannot become JSON")


@functools.cache
def _field_names(kind: type) -> tuple[str, ...] | None:
    """The fields of a record's class, None for any other."""
    return tuple(f.name for f in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else None


def from_json(cls: type[T], data: Json, *, where: str = "") -> T:
    """An instance of ``cls`` from its JSON form; unknown and missing fields are refused.

    Raises ``CodecError`` with the path of the first place that does not fit.
    """
    return typing.cast("T", _decode(cls, data, where or cls.__name__))


def from_json_or_none(cls: type[T], data: Json) -> T | None:
    """As ``from_json``; None for data that do not fit, as in a damaged recording."""
    try:
        return from_json(cls, data)
    except CodecError:
        return None


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _decode(kind: Any, data: Json, where: str) -> Any:
    if kind is Any:
        return data
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(typing.get_args(kind), data, where)
    if origin is typing.Literal:
        if data not in typing.get_args(kind):
            raise CodecError(f"{where}: {data!r} is none of {', '.join(map(repr, typing.get_args(kind)))}")
        return data
    if origin in (tuple, list):
        return _decode_sequence(origin, typing.get_args(kind), data, where)
    if origin is not None and issubclass(origin, typing.Mapping):
        return _decode_mapping(typing.get_args(kind), data, where)
    if dataclasses.is_dataclass(kind):
        return _decode_record(typing.cast("type", kind), data, where)
    return _decode_scalar(kind, data, where)


def _decode_scalar(kind: Any, data: Json, where: str) -> Any:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        try:
            return kind(data)
        except ValueError as error:
            raise CodecError(f"{where}: {error}") from None
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return _float(data, where)
    if isinstance(data, bool) and kind is not bool:
        raise CodecError(f"{where}: expected {kind.__name__}, found a boolean")
    if not isinstance(data, kind):
        raise CodecError(f"{where}: expected {kind.__name__}, found {type(data).__name__}")
    return data


def _float(data: int, where: str) -> float:
    try:
        return float(data)
    except OverflowError as error:
        raise CodecError(f"{where}: {error}") from None


def _decode_union(options: tuple[Any, ...], data: Json, where: str) -> Any:
    errors = []
    for option in options:
        try:
            return _decode(option, data, where)
        except CodecError as error:
            errors.append(str(error))
    raise CodecError(errors[0])


def _decode_sequence(origin: Any, args: tuple[Any, ...], data: Json, where: str) -> Any:
    if not isinstance(data, list):
        raise CodecError(f"{where}: expected a list, found {type(data).__name__}")
    item_kind = args[0] if args else Any
    return origin(_decode(item_kind, item, f"{where}[{index}]") for index, item in enumerate(data))


def _decode_mapping(args: tuple[Any, ...], data: Json, where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise CodecError(f"{where}: expected a mapping, found {type(data).__name__}")
    value_kind = args[1] if args else Any
    return {key: _decode(value_kind, value, f"{where}.{key}") for key, value in data.items()}


def _decode_record(kind: type, data: Json, where: str) -> Any:
    if not isinstance(data, dict):
        raise CodecError(f"{where}: expected a mapping, found {type(data).__name__}")
    hints = _hints(kind)
    values: dict[str, Any] = {}
    for f in dataclasses.fields(kind):
        if f.name in data:
            values[f.name] = _decode(hints[f.name], data[f.name], f"{where}.{f.name}")
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise CodecError(f"{where}.{f.name}: missing")
    unknown = sorted(set(data) - set(values) - {f.name for f in dataclasses.fields(kind)})
    if unknown:
        raise CodecError(f"{where}.{unknown[0]}: unknown field")
    return kind(**values)
