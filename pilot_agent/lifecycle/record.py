"""Plain records of the resident processes, with their JSON form.

Classes with slots: what the keeper holds stays in memory, and ``dataclasses`` would be a tenth of it. An unknown or
missing key is a ``PlanError``: both sides come from the same payload.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self


class PlanError(ValueError):
    """A plan that the keeper cannot follow; the message names the first key that does not fit."""


class Record:
    """Values by keyword, with the JSON form shared by all parts of the plan."""

    __slots__: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The JSON form, at any depth."""
        return {name: _plain(getattr(self, name)) for name in self.__slots__}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """The record of that JSON form. Raises ``PlanError``."""
        if not isinstance(data, dict):
            raise PlanError(f"{cls.__name__}: expected a mapping, found {type(data).__name__}")
        try:
            return cls(**data)
        except TypeError as error:
            raise PlanError(f"{cls.__name__}: {error}") from None


def take(record: Record, defaults: dict[str, Any], given: dict[str, Any]) -> None:
    """Set all of a record's values: what is given, else the default. Raises ``TypeError`` for a name that is none."""
    for name, default in defaults.items():
        setattr(record, name, given.pop(name, default))
    if given:
        raise TypeError(f"unknown: {', '.join(sorted(given))}")


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
