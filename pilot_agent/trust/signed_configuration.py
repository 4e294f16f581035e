"""Configuration and image dictionaries that the factory and VOs signed: fetched by name and verified, then layers.

``config/NAME`` and ``images/NAME`` are the factory's, ``config/VO/NAME`` and ``images/VO/NAME`` a VO's: whose keys may
sign a name decides which layer it is, so that a VO says nothing that only the factory may say.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pilot_agent.config import Layer
from pilot_agent.config_read import FILE_LIMIT_BYTES, parse_document
from pilot_agent.files import read_bounded
from pilot_agent.model import Failure, FailureKind, PilotError
from pilot_agent.tarballs.publication import signed_publication
from pilot_agent.tarballs.stepping import step

if TYPE_CHECKING:
    from pilot_agent.process import WakeUp
    from pilot_agent.trust.bundle import Trust

SIGNED_CONFIGURATION = signed_publication(name="signed configuration", what="configuration", code="config")
_NAME = re.compile(r"(config|images)/(?:([a-z0-9][a-z0-9._-]{0,63})/)?[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


def signed_layers(
    names: Sequence[str],
    trust: Trust,
    *,
    scratch: str,
    environment: Mapping[str, str],
    seconds: float,
    wake: WakeUp | None = None,
) -> list[Layer]:
    """The layers that the artifacts ``names`` are, in their order. ``scratch`` is a directory of the pilot's own.

    Raises ``PilotError``: what is wrong with the names or what they hold (config), with the network, or with what was
    published (corruption); ``Interrupted``.
    """
    meant = {name: _meant(name) for name in names}

    def fetch() -> dict[str, str]:
        repository = trust.repository(scratch, environment, time.monotonic() + seconds)
        paths = {name: os.path.join(scratch, os.urandom(6).hex()) for name in names}
        repository.fetch_all(paths, most_bytes=FILE_LIMIT_BYTES)
        contents = {name: read_bounded(path, limit_bytes=FILE_LIMIT_BYTES) for name, path in paths.items()}
        return {name: content.decode("utf-8", "surrogateescape") for name, content in contents.items()}

    texts = step(SIGNED_CONFIGURATION, f"fetching {', '.join(names)}", fetch, seconds=seconds, wake=wake)
    layers = []
    for name, (kind, layer) in meant.items():
        document = parse_document(texts[name].encode("utf-8", "surrogateescape"), name)
        layers.append(Layer(layer, {"images": document} if kind == "images" else document, name))
    return layers


def _meant(name: str) -> tuple[str, str]:
    """The kind of such an artifact, and its layer."""
    match = _NAME.fullmatch(name)
    if match is None:
        message = (
            f"artifacts.config names {name!r}; config/NAME, config/VO/NAME, images/NAME or images/VO/NAME is needed"
        )
        hint = "whoever wrote the configuration takes the name that packaging/artifacts.py add printed"
        raise PilotError(Failure(FailureKind.CONFIG, "config.invalid", message, hint))
    return match[1], "vo" if match[2] else "factory"
