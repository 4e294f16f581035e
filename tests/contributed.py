"""Contributed plugins as a plugin directory holds them after ``pip install --target``."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLUGINS = sorted(path.parent for path in (ROOT / "plugins_contrib").glob("*/pyproject.toml"))


def install(plugin: str, directory: Path) -> Path:
    """Put ``plugins_contrib/<plugin>`` with its metadata into ``directory``, which is returned."""
    packaging = str(ROOT / "packaging")
    if packaging not in sys.path:
        sys.path.append(packaging)
    from payload.plugins import read_plugin

    for name, content in read_plugin(ROOT / "plugins_contrib" / plugin).files.items():
        place = directory / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return directory
