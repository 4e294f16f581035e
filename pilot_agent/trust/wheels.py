"""A signed wheel becomes a directory of plugins: modules, packages and their ``dist-info``, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pilot_agent.trust.zips import Archive, RefusedError, unpack_zip

MOST_MEMBERS = 5_000
MOST_BYTES = 256 << 20
_DATA = re.compile(r"[^/]+\.data/")
"""What an installer would put elsewhere (scripts, headers): nothing that a plugin has."""


def unpack_wheel(path: str, directory: str) -> None:
    """Unpack the wheel at ``path`` to ``directory``, which must not exist and has its name once all is there.

    Raises ``PilotError``: artifact.content (corruption) for what is no wheel of plugins, disk.full (node).
    """
    hint = "whoever signs the plugin builds it anew as a wheel, with an entry point of the group pilot_agent"
    unpack_zip(path, directory, Archive("a plugin", hint, MOST_MEMBERS, MOST_BYTES, _admit))


def _admit(names: Sequence[str]) -> None:
    if not any(name.endswith(".dist-info/entry_points.txt") for name in names):
        raise RefusedError("it has no entry_points.txt, and so no plugin")
    elsewhere = next((name for name in names if _DATA.match(name)), None)
    if elsewhere is not None:
        raise RefusedError(f"{elsewhere[:100]!r} in it would have to be installed elsewhere; a plugin has modules only")
