"""Plugins that VOs and factories signed: fetched, verified, unpacked, then loaded as any other directory of plugins."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.tarballs.publication import signed_publication
from pilot_agent.tarballs.stepping import step
from pilot_agent.trust.names import directory_name

if TYPE_CHECKING:
    from pilot_agent.process import WakeUp
    from pilot_agent.trust.bundle import Trust

SIGNED_PLUGINS = signed_publication(name="signed plugins", what="plugins", code="plugin")

MOST_WHEEL_BYTES = 64 << 20


def fetch_plugins(
    names: Sequence[str],
    trust: Trust,
    *,
    directory: str,
    scratch: str,
    environment: Mapping[str, str],
    seconds: float,
    wake: WakeUp | None = None,
) -> tuple[str, ...]:
    """A directory below ``directory`` for each of the artifacts ``names``, in their order; those that are there from
    before are kept. ``scratch`` is a directory of the pilot's own.

    Raises ``PilotError``: what is wrong with the configuration, the network, or with what was published (corruption);
    ``Interrupted``.
    """
    places = {name: os.path.join(directory, _stem(name)) for name in names}
    wanted = {name: place for name, place in places.items() if not os.path.isdir(place)}

    def fetch() -> None:
        # Late: few pilots fetch anything.
        from pilot_agent.trust.wheels import unpack_wheel

        repository = trust.repository(scratch, environment, time.monotonic() + seconds)
        paths = {name: os.path.join(scratch, f"{os.urandom(6).hex()}-{os.path.basename(name)}") for name in wanted}
        repository.fetch_all(paths, most_bytes=MOST_WHEEL_BYTES)
        # All of them are believed before any is unpacked.
        for name, place in wanted.items():
            unpack_wheel(paths[name], place)

    if wanted:
        step(SIGNED_PLUGINS, f"fetching {', '.join(wanted)}", fetch, seconds=seconds, wake=wake)
    return tuple(places.values())


def _stem(name: str) -> str:
    stem = directory_name(name, ".whl")
    if stem is None:
        message = f"plugins.signed names {name!r}, which is no wheel; plugin/VO/NAME-VERSION-py3-none-any.whl is needed"
        hint = "whoever wrote the configuration corrects the name"
        raise PilotError(Failure(FailureKind.CONFIG, "config.invalid", message, hint))
    return stem
