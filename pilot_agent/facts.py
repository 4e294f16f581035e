"""Facts by their names."""

from __future__ import annotations

from collections.abc import Mapping

from pilot_agent.model import Fact, Json


def known_value(facts: Mapping[str, Fact], name: str, default: Json = None) -> Json:
    """The value of the fact of this name, ``default`` where it is not known."""
    fact = facts.get(name)
    return fact.value if fact is not None and fact.known else default
