"""Ask plugins what they declare, one implementation at a time, so that one plugin's exception drops nothing.

pluggy's own call of a hook stops at the first exception and loses what the others returned; a pilot cannot afford
that, so every implementation is called by itself and judged by itself.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import pluggy

from pilot_agent import hookspecs
from pilot_agent.codec import CodecError, from_json, to_json
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.programs import ProgramError, settled


@dataclass(frozen=True, slots=True)
class Declared:
    """One record that a plugin declared."""

    plugin: str
    hook: str
    record: Any
    builtin: bool
    whose: str = ""
    """The plugin with its version and where it came from, for those that are not the pilot's own."""


@dataclass(frozen=True, slots=True)
class PluginReport:
    """What became of one plugin: the file it is, the hooks it implements, how many records it declared in ``seconds``.

    ``origin`` is payload, signed (then ``artifact`` is the name under which it was signed) or local: a directory of
    this node."""

    name: str
    source: str
    hooks: tuple[str, ...]
    declared: int
    seconds: float = 0.0
    error: str = ""
    version: str = ""
    origin: Literal["payload", "signed", "local"] = "payload"
    artifact: str = ""

    @property
    def whole_name(self) -> str:
        """Name, version and artifact, as far as they are known."""
        where = self.artifact or (self.source if self.origin == "local" else "")
        return " ".join(filter(None, (self.name, self.version, f"({where})" if where else "")))


def new_manager() -> pluggy.PluginManager:
    """A plugin manager that knows every hook of the contract."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def declarations(
    name: str,
    plugin: ModuleType,
    config: Mapping[str, Json],
    *,
    builtin: bool,
    note: Callable[[str], None] | None = None,
    trace: Callable[[Json], None] | None = None,
) -> list[Declared]:
    """Everything one plugin declares. ``note`` is told of each hook before it is called, ``trace`` of each call with
    arguments and result. Its hooks find the defaults of its own options in the configuration; where a
    value that was given does not fit its option, the options are all that it is asked for.

    Raises ``PilotError`` (plugin.load) for an unknown hook, a wrong argument, an exception in a hook, a record of the
    wrong type or one that cannot be run, or a name that two of one hook share; (config.invalid) for a ``ValueError``
    that begins with the path of one of the plugin's own options (``plugins.options.PLUGIN.NAME``, and for the options
    of a service also ``services.PLUGIN.NAME``): its value is wrong, and not the plugin.
    """
    try:
        implementations = _implementations(name, plugin)
    except (pluggy.PluginValidationError, ValueError) as error:
        raise _load_failure(name, str(error)) from error
    file = getattr(plugin, "__file__", None)
    directory = os.path.dirname(file) if file else None
    found: list[Declared] = []
    taken: set[tuple[str, str]] = set()
    for hook, record_type in hookspecs.DECLARATIONS.items():
        for implementation in implementations[hook]:
            if note is not None:
                note(hook)
            began = time.monotonic()
            arguments = dict.fromkeys(implementation.argnames, config)
            records = _yielded(name, hook, implementation, arguments)
            if trace is not None:
                seconds = round(time.monotonic() - began, 4)
                trace({"hook": hook, "arguments": arguments, "result": list(map(repr, records)), "seconds": seconds})
            for record in records:
                record = _admitted(name, hook, record, record_type, directory)
                key = (hook, getattr(record, "name", ""))
                if key[1] and key in taken:
                    raise _load_failure(name, f"{hook} yielded two records with the name {key[1]!r}")
                taken.add(key)
                found.append(Declared(name, hook, record, builtin))
        if hook == "pilot_options" and found:
            options = [declared.record for declared in found]
            given = config["plugins"]["options"].get(name, {})
            if not isinstance(given, dict) or any(not fits(o, given[o.name]) for o in options if o.name in given):
                break  # whoever loads the plugin refuses the value with its path
            config = _with_options(config, name, {option.name: option.default for option in options} | given)
    return found


def _yielded(name: str, hook: str, implementation: pluggy.HookImpl, arguments: Mapping[str, Json]) -> list[Any]:
    """What one implementation of a hook gives. Raises ``PilotError``."""
    try:
        answer: Any = implementation.function(**arguments)
        return list(answer or ())
    except PilotError:
        raise
    except Exception as error:  # the plugin boundary
        raise _raised(name, hook, error) from error


def _admitted(name: str, hook: str, record: Any, kind: type[Any], directory: str | None) -> Any:
    """The record as it will be run. Raises ``PilotError`` for one of another kind, and one that can never run."""
    if not isinstance(record, kind):
        raise _load_failure(name, f"{hook} yielded a {type(record).__name__} where a {kind.__name__} is needed")
    run = getattr(record, "run", "")
    if not isinstance(run, str):
        given = f"the function {run.__qualname__}" if hasattr(run, "__qualname__") else f"a {type(run).__name__}"
        function = getattr(run, "__name__", "FUNCTION")
        wanted = f'run=f"{{__name__}}:{function}"'
        raise _load_failure(name, f"{hook}, {record.name!r}: run is {given}; name it instead: {wanted}")
    try:
        return settled(record, directory)
    except ProgramError as error:
        raise _load_failure(name, f"{hook}, {record.name!r}: {error}") from error


def fits(option: hookspecs.Option, value: Json) -> bool:
    """Whether a value is of its option's type."""
    return _OPTION_TYPES[option.type](value)


def _with_options(config: Mapping[str, Json], plugin: str, options: Mapping[str, Json]) -> Mapping[str, Json]:
    plugins = config["plugins"]
    return {**config, "plugins": {**plugins, "options": {**plugins["options"], plugin: dict(options)}}}


_OPTION_TYPES: Mapping[str, Callable[[Json], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "list": lambda value: isinstance(value, list),
}


def implemented_hooks(plugin: ModuleType) -> tuple[str, ...]:
    """The names of the hooks that a plugin implements, in the contract's order."""
    return tuple(hook for hook, found in _implementations(plugin.__name__, plugin).items() if found)


def _implementations(name: str, plugin: ModuleType) -> Mapping[str, Sequence[pluggy.HookImpl]]:
    """What one plugin has for each hook of the contract. Raises pluggy's errors for a hook or argument that is none."""
    manager = _manager()
    try:
        manager.register(plugin, name=name)
        manager.check_pending()
        hooks = (*hookspecs.DECLARATIONS, "pilot_event")
        found = {hook: getattr(manager.hook, hook).get_hookimpls() for hook in hooks}
    except BaseException:
        # What is left of a plugin that does not fit must not meet the next one.
        _manager.cache_clear()
        raise
    manager.unregister(plugin)
    return found


@functools.cache
def _manager() -> pluggy.PluginManager:
    """One for all plugins of a process, each of which it knows only for a moment: it takes longer to make than a plugin
    takes to read."""
    return new_manager()


def declared_to_json(found: list[Declared]) -> Json:
    """Declarations as plain data."""
    return [
        {"plugin": d.plugin, "hook": d.hook, "record": to_json(d.record), "builtin": d.builtin, "whose": d.whose}
        for d in found
    ]


def declared_from_json(data: Json) -> list[Declared]:
    """Declarations from plain data. Raises ``CodecError``."""
    found = []
    for item in data:
        try:
            record: Any = from_json(hookspecs.DECLARATIONS[item["hook"]], item["record"], where=item["hook"])
        except KeyError as error:
            raise CodecError(f"no declaration: {error}") from error
        found.append(Declared(item["plugin"], item["hook"], record, item["builtin"], item.get("whose", "")))
    return found


def _raised(plugin: str, hook: str, error: Exception) -> PilotError:
    if isinstance(error, ValueError) and str(error).startswith((f"plugins.options.{plugin}.", f"services.{plugin}.")):
        hint = "correct the option; whoever gave it must act"
        return PilotError(Failure(FailureKind.CONFIG, "config.invalid", str(error), hint, plugin=plugin))
    return _load_failure(plugin, f"{hook} raised {type(error).__name__}: {error}")


def _load_failure(plugin: str, message: str) -> PilotError:
    return PilotError(
        Failure(
            FailureKind.CORRUPTION,
            "plugin.load",
            f"plugin {plugin} cannot be loaded: {message}",
            hint="correct the plugin or take it out of plugins.load; whoever publishes the plugin must act",
            plugin=plugin,
        )
    )
