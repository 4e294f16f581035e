"""The configure stage: layers merged, workspace chosen and made, plugins loaded."""

from __future__ import annotations

import errno
import getpass
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pilot_agent import host
from pilot_agent.config import Config, Layer, load_config
from pilot_agent.config_check import Problem, invalid
from pilot_agent.config_keys import FACTORY_LAYERS
from pilot_agent.config_read import command_line_layer, environment_layer, parse_document, read_layer
from pilot_agent.lifecycle.lock import lock, release
from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.plugin_services import in_words_of_the_configuration, require_services, with_plugin_services
from pilot_agent.plugins import scratch
from pilot_agent.service_needs import require_known_needs
from pilot_agent.spelling import nearest
from pilot_agent.state import State
from pilot_agent.trust.bundled import LAYERS, bundled, configuration
from pilot_agent.trust.local import writable_by_others
from pilot_agent.workspace import BEING_MADE, WORKSPACE_PREFIX, Workspace

if TYPE_CHECKING:
    from pilot_agent.process import WakeUp

SITE_FILE = "/etc/pilot-agent/site.yaml"
WORKSPACE_MINIMUM_MIB = 64
# Variables that probably hold a secret: no probe or plugin sees them, and no file of the pilot.
SECRET_NAME = re.compile(r"TOKEN|SECRET|PASS|CREDENTIAL|PRIVATE|BEARER|AUTH|COOKIE|_KEY|X509_USER", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Given:
    """What the caller gave: configuration files as ``layer=path``, ``--set`` assignments, where output goes, and the
    requirements of ``--require``."""

    files: tuple[str, ...] = ()
    assignments: tuple[str, ...] = ()
    output: str = "."
    site_file: str = SITE_FILE
    requirements: tuple[str, ...] = ()


def read_layers(given: Given, environment: Mapping[str, str], *, wake: WakeUp | None = None) -> Config:
    """The effective configuration: what the payload carries, what is signed and fetched, files, environment and command
    line. Raises ``PilotError`` that names every problem; ``Interrupted``."""
    config = read_local_layers(given, environment)
    if not config.get("artifacts.config"):
        return config
    return _read(given, environment, _signed_layers(config, environment, wake))


def read_local_layers(given: Given, environment: Mapping[str, str]) -> Config:
    """As ``read_layers``, without anything that comes over the network."""
    return _read(given, environment, [])


def _signed_layers(config: Config, environment: Mapping[str, str], wake: WakeUp | None) -> list[Layer]:
    from pilot_agent.trust.bundle import Trust
    from pilot_agent.trust.signed_configuration import signed_layers

    place = scratch.require(config.get("site.scratch"), environment, WORKSPACE_MINIMUM_MIB, here=True)
    with tempfile.TemporaryDirectory(prefix="pilot-agent-", dir=place) as own:
        return signed_layers(
            config.get("artifacts.config"),
            Trust.of(config.values),
            scratch=own,
            environment=environment,
            seconds=config.get("artifacts.seconds"),
            wake=wake,
        )


def _read(given: Given, environment: Mapping[str, str], signed: Sequence[Layer]) -> Config:
    layers = [*bundled_layers(), *signed]
    named = [_named_file(text) for text in given.files]
    if not any(layer == "site" for layer, _ in named) and os.path.exists(given.site_file):
        named.insert(0, ("site", given.site_file))
    layers += [_read_own(layer, path) for layer, path in named]
    layers += [environment_layer(environment), command_line_layer(given.assignments, given.requirements)]
    config = load_config(layers)
    return replace(config, layers=tuple(name for name in config.layers if _matters(name, layers)))


def bundled_layers() -> list[Layer]:
    """The configuration that the factory put into the payload; a file of the same layer is stronger. Raises
    ``PilotError``."""
    found = ((layer, bundled(configuration(layer))) for layer in LAYERS)
    return [Layer(layer, parse_document(text, "the payload"), "payload") for layer, text in found if text is not None]


def _named_file(text: str) -> tuple[str, str]:
    """``layer=path``, or a bare path, which is the site's own file."""
    layer, equals, path = text.partition("=")
    return (layer, path) if equals and "/" not in layer else ("site", text)


def _matters(name: str, layers: Sequence[Layer]) -> bool:
    return any(layer.document for layer in layers if name.split(":", maxsplit=1)[0] == layer.name)


def _read_own(layer: str, path: str) -> Layer:
    """The layer in a file. Raises ``PilotError``, also (config.exposed) when others on this node can change it."""
    reason = writable_by_others(path)
    if reason:
        message = f"the {layer} configuration is not read: {reason}"
        hint = f"`chmod go-w {path}`, make it root's or this account's, and keep it where only they may rename"
        raise PilotError(Failure(FailureKind.CONFIG, "config.exposed", message, hint))
    return read_layer(layer, path)


def explained(config: Config) -> dict[str, Json]:
    """Every key with its value and the layers that gave it; where the name of a member speaks of a secret, not its
    value."""
    return {path: {"value": _shown(config.get(path)), "from": list(config.origins[path])} for path in config.origins}


def _shown(value: Json) -> Json:
    from pilot_agent.plugins.recordings import masked

    # A single text is the path of a file or an address, whatever the key is called.
    return masked(value) if isinstance(value, dict | list) else value


def new_state(config: Config, environment: Mapping[str, str], *, output: str, started: float | None = None) -> State:
    """The state of a pilot that knows only its configuration."""
    return State(
        pilot_id=os.urandom(6).hex(),
        started=time.time() if started is None else started,
        host=socket.gethostname(),
        user=_user_name(),
        config=config,
        environment=without_secrets(environment),
        output=absolute(output),
    )


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables whose name does not speak of a secret."""
    return {name: value for name, value in environment.items() if not SECRET_NAME.search(name)}


def absolute(path: str) -> str:
    """The absolute path. Raises ``PilotError`` (usage) for a relative one when the current directory is gone."""
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        message = f"the current directory was removed, so {path} means nothing"
        raise PilotError(Failure(FailureKind.USAGE, "usage", message, "start in a directory that exists")) from None


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.geteuid())


def choose_workspace(state: State, *, here: bool = True) -> Workspace:
    """Where the workspace will be; nothing is made yet. The current directory is a candidate when ``here``.

    Raises ``PilotError`` (scratch.none) naming every candidate that was refused, with its reason.
    """
    wanted = state.config.get("site.scratch")
    place = scratch.require(wanted, state.environment, WORKSPACE_MINIMUM_MIB, here=here)
    return Workspace(os.path.join(place, f"{WORKSPACE_PREFIX}{state.pilot_id}"))


def make_workspace(workspace: Workspace, announce: Callable[[str], None]) -> None:
    """Make the workspace and hold it; ``announce`` is told of its path before it exists. Raises ``PilotError``
    (scratch.failed, workspace.in_use).

    It is made under another name, so that nobody ever finds one that no pilot holds and takes it for a dead one's.
    """
    announce(workspace.root)
    made = Workspace(workspace.root + BEING_MADE)
    try:
        if os.path.lexists(workspace.root):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        os.mkdir(made.root, 0o700)
        os.chmod(made.root, 0o700)
        made.create()
        lock(made)
        os.rename(made.root, workspace.root)
    except OSError as error:
        release()
        shutil.rmtree(made.root, ignore_errors=True)
        message = f"the workspace {workspace.root} cannot be made: {error.strerror}"
        raise PilotError(Failure(FailureKind.NODE_RESOURCE, "scratch.failed", message, retry=True)) from error


def load_plugins(config: Config, around: host.Surroundings) -> tuple[host.Loaded, Config]:
    """All plugins' declarations, and the configuration with the defaults of their options. What ``services`` says of a
    plugin's service is among these options.

    Raises ``PilotError`` (plugin.load; plugin.local for a directory that the factory does not allow; config.invalid for
    one that is missing and for a plugin's own options).
    """
    _require_allowed(config)
    _require_directories(config)
    config, switched_on = with_plugin_services(config)
    names: list[str] = config.get("plugins.load")
    try:
        loaded = host.load_plugins(names, config.values, around, config.get("plugins.timeout_seconds"))
    except PilotError as error:
        raise in_words_of_the_configuration(error, config, switched_on) from error
    require_services(loaded.plugins, config, switched_on)
    require_known_needs(loaded.of("pilot_services"), config)
    options = host.complete_options(loaded, config.get("plugins.options"), config, switched_on)
    plugins = {**config.values["plugins"], "options": options}
    return loaded, replace(config, values={**config.values, "plugins": plugins})


def with_plugin_places(
    around: host.Surroundings, config: Config, workspace: Workspace, environment: Mapping[str, str]
) -> host.Surroundings:
    """``around`` with where plugins are looked for: those that are fetched, which lie in the workspace, and then the
    configured ones.

    Raises ``PilotError`` where a signed plugin cannot be had and believed; ``Interrupted``.
    """
    signed: tuple[str, ...] = ()
    names = config.get("plugins.signed")
    if names:
        from pilot_agent.trust.bundle import Trust
        from pilot_agent.trust.signed_plugins import fetch_plugins

        signed = fetch_plugins(
            names,
            Trust.of(config.values),
            directory=workspace.plugins,
            scratch=workspace.artifacts,
            environment=environment,
            seconds=config.get("artifacts.seconds"),
            wake=around.wake,
        )
    own = (absolute(path) for path in config.get("plugins.directories"))
    return replace(around, directories=(*signed, *own), artifacts=dict(zip(signed, names or (), strict=True)))


def _require_allowed(config: Config) -> None:
    """Design section 10: what nobody signed runs under a factory only where the factory's configuration says so."""
    under_a_factory = any(layer.partition(":")[0] in FACTORY_LAYERS for layer in config.layers)
    others = [layer for layer in config.origins.get("plugins.directories", ()) if layer not in FACTORY_LAYERS]
    if not under_a_factory or config.get("plugins.local") or not config.get("plugins.directories") or others == []:
        return
    message = f"plugins.directories is given by {' and '.join(others)}, and the factory does not allow local plugins"
    hint = "take it out, have the plugins signed (plugins.signed), or let the factory set plugins.local: true"
    raise PilotError(Failure(FailureKind.CONFIG, "plugin.local", message, hint))


def _require_directories(config: Config) -> None:
    layers = " and ".join(config.origins.get("plugins.directories", ()))
    paths = [absolute(path) for path in config.get("plugins.directories")]
    problems = [
        Problem(f"plugins.directories[{index}]", layers, f"there is no directory {path}{nearest(path, _beside(path))}")
        for index, path in enumerate(paths)
        if not os.path.isdir(path)
    ]
    if problems:
        raise invalid(problems)


def _beside(path: str) -> list[str]:
    """The directories that lie where ``path`` would lie."""
    try:
        with os.scandir(os.path.dirname(path)) as found:
            return [entry.path for entry in found if entry.is_dir()]
    except OSError:
        return []
