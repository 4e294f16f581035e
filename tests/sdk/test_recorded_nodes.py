"""The recorded nodes of the package are those that the probes are tested with."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.probes.recording import load_recording
from pilot_agent.sdk.recorded_nodes import SHIPPED, make_node, shipped_files

NODES = Path(__file__).parents[1] / "probes" / "nodes"


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_node_is_that_of_the_probes_tests(name: str, tmp_path: Path) -> None:
    root = NODES / name
    there = {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}
    assert shipped_files(name) == there, f"write pilot_agent/sdk/nodes/{name}.json anew"
    made = make_node(name, tmp_path)
    assert dict(made.environment) == dict(load_recording(str(root)).environment)
