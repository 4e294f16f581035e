"""Plugins that VOs and factories signed: fetched, verified, unpacked, then loaded as any other directory of plugins."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pilot_agent.model import Failure, FailureKind, Json, PilotError
from pilot_agent.tarballs.publication import Publication
from pilot_agent.tarballs.stepping import step
from pilot_agent.trust.local import writable_by_others

if TYPE_CHECKING:
    from pilot_agent.process import WakeUp

SIGNED_PLUGINS = Publication(
    name="signed plugins",
    what="plugins",
    schema="pilot-agent/trust/1",
    tool="packaging/artifacts.py",
    code="plugin",
    stage="configure",
    place_key="artifacts.mirrors",
    digest_key="artifacts.bundle",
    cache_key="site.scratch",
    seconds_key="artifacts.seconds",
)


def fetch_plugins(
    names: Sequence[str],
    settings: Mapping[str, Json],
    *,
    directory: str,
    scratch: str,
    environment: Mapping[str, str],
    wake: WakeUp | None = None,
) -> tuple[str, ...]:
    """A directory below ``directory`` for each of the artifacts ``names``, in their order; those that are there from
    before are kept. ``settings`` are the configuration's ``artifacts``, ``scratch`` is a directory of the pilot's own.

    Raises ``PilotError``: what is wrong with the configuration, the network, or with what was published (corruption);
    ``Interrupted``.
    """
    places = {name: os.path.join(directory, _stem(name)) for name in names}
    wanted = {name: place for name, place in places.items() if not os.path.isdir(place)}
    if wanted:
        bundle = _bundle_path(settings)
        step(
            SIGNED_PLUGINS,
            f"fetching {', '.join(wanted)}",
            lambda: _fetch(wanted, settings, bundle, scratch, environment),
            seconds=settings["seconds"],
            wake=wake,
        )
    return tuple(places.values())


def _fetch(
    wanted: Mapping[str, str], settings: Mapping[str, Json], bundle: str, scratch: str, environment: Mapping[str, str]
) -> None:
    # Late: few pilots fetch anything, and this loads what verifies signatures.
    from pilot_agent.trust.bundle import read_bundle
    from pilot_agent.trust.repository import SignedRepository
    from pilot_agent.trust.wheels import unpack_wheel

    own = os.path.join(scratch, f"signed-{os.urandom(6).hex()}")
    try:
        os.mkdir(own, 0o700)
    except OSError as error:
        raise _no_room(error) from error
    repository = SignedRepository(
        read_bundle(bundle), settings["mirrors"], own, environment, time.monotonic() + settings["seconds"]
    )
    for name, place in wanted.items():
        path = os.path.join(own, os.path.basename(name))
        repository.fetch(name, path)
        unpack_wheel(path, place)


def _bundle_path(settings: Mapping[str, Json]) -> str:
    if not settings["bundle"]:
        message = "plugins.signed names plugins, and artifacts.bundle does not say whose signatures to believe"
        hint = "the factory writes one with packaging/artifacts.py bundle, and sends it along with the pilot"
        raise PilotError(Failure(FailureKind.CONFIG, "artifact.bundle", message, hint))
    path: str = os.path.abspath(settings["bundle"])
    if reason := writable_by_others(path):
        message = f"artifacts.bundle is not believed: {reason}"
        hint = f"`chmod go-w {path}`, make it root's or this account's, and keep it where only they may rename"
        raise PilotError(Failure(FailureKind.CORRUPTION, "artifact.bundle", message, hint))
    return path


def _stem(name: str) -> str:
    """The name of the directory: all of the artifact's, as two VOs may have plugins of one name."""
    if not name.endswith(".whl") or any(part in ("", ".", "..") for part in name.split("/")):
        message = f"plugins.signed names {name!r}, which is no wheel; plugin/VO/NAME-VERSION-py3-none-any.whl is needed"
        hint = "whoever wrote the configuration corrects the name"
        raise PilotError(Failure(FailureKind.CONFIG, "config.invalid", message, hint))
    return name.removesuffix(".whl").replace("/", "--")


def _no_room(error: OSError) -> PilotError:
    message = f"what is fetched cannot be kept: {error.strerror}: {error.filename}"
    hint = "the site frees space in the file system of the pilot's scratch directory"
    return PilotError(Failure(FailureKind.NODE_RESOURCE, "disk.full", message, hint, retry=True))
