"""What services of several plugins have to do with each other: names that only one may have, and needs."""

from __future__ import annotations

from collections.abc import Sequence

from pilot_agent.collect import Declared
from pilot_agent.config import Config
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.services.variables import ready_attributes
from pilot_agent.spelling import nearest


def require_known_needs(services: Sequence[Declared], config: Config) -> None:
    """Raises ``PilotError`` for a service that needs one which nobody declares, and for two whose names or attributes
    are the same: config.invalid where the configuration named them, else plugin.load."""
    owners: dict[str, Declared] = {}
    for one in services:
        attribute = ready_attributes(one.record.name)[1]
        other = owners.setdefault(attribute, one)
        if other is not one:
            names = f"{other.record.name!r} ({other.plugin}) and {one.record.name!r} ({one.plugin})"
            raise _refusal(one, f"the services {names} have the same attribute {attribute}; name one of them otherwise")
    known = [one.record.name for one in services]
    for one in services:
        for name in one.record.needs:
            if name not in known:
                others = sorted(set(known) - {one.record.name})
                near = nearest(name, others) or f"; there are {', '.join(others) or 'no others'}"
                raise _refusal(one, f"{_needs(one, config)}: there is no service {name!r}{near}")
            if name == one.record.name:
                raise _refusal(one, f"{_needs(one, config)} names {name} itself; take it out")


def _needs(one: Declared, config: Config) -> str:
    """The place where its needs are, with the layer of the configuration that they are from."""
    path = f"services.{one.record.name}.needs"
    return f"{path} ({config.layer_of(path) if one.builtin else one.plugin})"


def _refusal(one: Declared, message: str) -> PilotError:
    if one.builtin:
        return PilotError(
            Failure(FailureKind.CONFIG, "config.invalid", message, "correct the configuration's services")
        )
    hint = "correct the plugin, or take it out of plugins.load"
    return PilotError(Failure(FailureKind.CORRUPTION, "plugin.load", message, hint, plugin=one.plugin))
