"""What a factory put into the payload with ``packaging/add_bundle.py``: whom to believe, and its configuration.

The digest in the job's arguments covers it, as it covers the payload's code; it is believed for the same reason.
"""

from __future__ import annotations

import pilot_agent

DIRECTORY = "bundle"
TRUST = "trust.json"
AUTHORITIES = "authorities.pem"
LAYERS = ("factory", "entry", "vo")
"""The layers of configuration that a payload may carry."""
LIMIT_BYTES = 4 << 20
"""Of one file."""


def bundled(name: str) -> bytes | None:
    """The content of the bundle's file ``name``; None where there is none, as in a checkout or a payload that was given
    nothing. Raises ``OSError`` for a payload that cannot be read any more."""
    loader = pilot_agent.__spec__.loader if pilot_agent.__spec__ is not None else None
    archive = getattr(loader, "archive", None)
    if archive is None:
        return None
    try:
        # The loader knows from the start of the program on where in the zip each file lies.
        content: bytes = loader.get_data(f"{archive}/{DIRECTORY}/{name}")  # type: ignore[union-attr]
    except OSError as error:
        if error.errno:
            raise
        return None  # no error of the system: it is not listed there
    return content


def configuration(layer: str) -> str:
    """The name of the file with a layer's configuration."""
    return f"{layer}.json"


def authorities() -> str | None:
    """The certificate authorities (PEM) that the factory's servers are held to; None where the bundle has none."""
    content = bundled(AUTHORITIES)
    return None if content is None else content.decode("ascii")
