"""Contributed plugins are tested as they lie here, with what every other test may rely on."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.conftest import make_distribution, make_plugin, nothing_is_left_behind, open_path, plugin_directory

__all__ = ["make_distribution", "make_plugin", "nothing_is_left_behind", "open_path", "plugin_directory"]

sys.path[:0] = [str(path) for path in sorted(Path(__file__).parent.glob("*/src"))]
