"""What the plugin declares follows from its options."""

from __future__ import annotations

from pathlib import Path

from pilot_node_exporter.plugin import program_is_there

from pilot_agent.hookspecs import Context
from pilot_agent.model import CheckStatus


def context(program: str, path: str) -> Context:
    """What the check is given."""
    options = {"node_exporter": {"program": program}}
    return Context(config={"plugins": {"options": options}}, environment={"PATH": path})


def test_a_node_without_the_program_is_told_what_to_install(tmp_path: Path) -> None:
    found = program_is_there(context("prometheus-node-exporter", str(tmp_path)))
    assert found.status is CheckStatus.FAIL
    assert "no program prometheus-node-exporter on this node" in found.message
    assert "plugins.options.node_exporter.program" in found.hint


def test_a_program_is_found_by_its_name_and_by_its_path(tmp_path: Path) -> None:
    program = tmp_path / "prometheus-node-exporter"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in (program.name, str(program)):
        found = program_is_there(context(name, str(tmp_path)))
        assert (found.status, found.message) == (CheckStatus.PASS, f"the node exporter is {program}")
