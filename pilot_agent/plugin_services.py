"""Services that plugins declare, switched on where all services are: ``services.NAME`` without a command loads the
plugin ``NAME`` and gives it these options, as ``plugins.load`` and ``plugins.options.NAME`` do."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from pilot_agent.collect import PluginReport
from pilot_agent.config import Config
from pilot_agent.config_check import Problem, invalid, service_entry_problems
from pilot_agent.config_keys import LAYERS
from pilot_agent.config_values import type_name
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.spelling import nearest

SERVICE_HOOK = "pilot_services"


class MissingPluginError(PilotError):
    """Nothing has the name of a plugin that was to be loaded; ``offered`` are the entry points that there are."""

    def __init__(self, failure: Failure, offered: Sequence[str]) -> None:
        super().__init__(failure)
        self.offered = tuple(offered)


def with_plugin_services(config: Config) -> tuple[Config, tuple[str, ...]]:
    """The configuration in which only whole services are left in ``services``, and the plugins of the others.

    Raises ``PilotError`` (config.invalid) for an option that is given in both places.
    """
    entries: Mapping[str, Mapping[str, Json]] = config.get("services")
    options, names = dict(config.get("plugins.options")), list(config.get("plugins.load"))
    switched_on = tuple(name for name, entry in entries.items() if "command" not in entry)
    if not switched_on:
        return config, ()
    problems: list[Problem] = []
    for name in switched_on:
        others = options.get(name) or {}
        if not isinstance(others, Mapping):
            path = f"plugins.options.{name}"
            message = f"expected a mapping of options, found {type_name(others)}"
            problems.append(Problem(path, config.layer_of(path), message))
            continue
        for option in set(others) & set(entries[name]):
            other = f"plugins.options.{name}.{option}"
            path = f"services.{name}.{option}"
            message = f"{other} ({config.layer_of(other)}) is given too; give only this one"
            problems.append(Problem(path, config.layer_of(path), message))
        options[name] = {**others, **entries[name]}
        names += [name] * (name not in names)
    if problems:
        raise invalid(sorted(problems, key=lambda problem: problem.path))
    whole = {name: entry for name, entry in entries.items() if name not in switched_on}
    plugins = {**config.values["plugins"], "options": options, "load": names}
    gave = config.origins["services"]
    origins = {path: _and(config.origins[path], gave) for path in ("plugins.options", "plugins.load")}
    values = {**config.values, "services": whole, "plugins": plugins}
    return replace(config, values=values, origins={**config.origins, **origins}), switched_on


def _and(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    """The layers of both, weakest first."""
    return tuple(layer for layer in LAYERS if layer != "defaults" and layer in {*first, *second})


def require_services(plugins: Sequence[PluginReport], config: Config, switched_on: Collection[str]) -> None:
    """Raises ``PilotError`` (config.invalid) for a plugin that is configured as a service and declares none."""
    problems = []
    for plugin in plugins:
        if plugin.name in switched_on and SERVICE_HOOK not in plugin.hooks:
            path = f"services.{plugin.name}"
            message = f"the plugin {plugin.name} declares no services; its options belong in plugins.options, and it in"
            problems.append(Problem(path, config.layer_of(path), f"{message} plugins.load"))
    if problems:
        raise invalid(problems)


def place_of_option(config: Config, plugin: str, option: str, switched_on: Collection[str]) -> tuple[str, str]:
    """Where an option of a plugin stands, or would stand, and the layer that gave it, or that names the plugin."""
    paths = [f"{begin}.{plugin}.{option}" for begin in ("services", "plugins.options")]
    for path in paths:
        if path in config.members:
            return path, config.members[path]
    path = paths[0 if plugin in switched_on else 1]
    return path, config.members.get(path.rpartition(".")[0], "")


def in_words_of_the_configuration(error: PilotError, config: Config, switched_on: Collection[str]) -> PilotError:
    """A failure of a plugin that was loaded, with the paths of its options where they really are, and their layers."""
    failure = error.failure
    plugin = failure.plugin or ""
    if isinstance(error, MissingPluginError) and plugin in switched_on:
        return invalid(_no_service(error, config, plugin))
    if failure.kind is not FailureKind.CONFIG:
        return error

    def with_layer(found: re.Match[str]) -> str:
        path, layer = place_of_option(config, found["plugin"], found["option"], switched_on)
        return path + found["rest"] + (f" ({layer})" if layer else "")

    path = r"(?:plugins\.options|services)\.(?P<plugin>[\w-]+)\.(?P<option>\w+)(?P<rest>(?:\[\d+\])?(?:\.\w+)*)"
    return PilotError(replace(failure, message=re.sub(path, with_layer, failure.message)))


def _no_service(error: MissingPluginError, config: Config, name: str) -> list[Problem]:
    """What is wrong with an entry that is no whole service, and no plugin's."""
    path = f"services.{name}"
    near = nearest(name, error.offered) or f"; plugins with such are {', '.join(error.offered) or 'none'}"
    problems = [
        Problem(
            place,
            config.layer_of(place),
            f"missing; and there is no plugin {name}{near}" if place == f"{path}.command" else text,
        )
        for place, text in service_entry_problems(config.get("plugins.options")[name], path)
    ]
    return sorted(problems, key=lambda problem: not problem.message.startswith("missing"))
