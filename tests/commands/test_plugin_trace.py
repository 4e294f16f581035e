"""``plugin trace`` shows what was called with what, and what came of it; ``plugin list`` who is loaded."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.cli import main
from pilot_agent.commands.plugin_trace import run_trace
from pilot_agent.model import PilotError
from pilot_agent.sdk.recorded_nodes import make_node
from pilot_agent.sdk.scaffold import new_plugin


def asked(directory: Path, **given: Any) -> argparse.Namespace:
    """The arguments of the command."""
    defaults = {"directory": str(directory), "through": "probe", "root": "/", "set": [], "json": False}
    return argparse.Namespace(**{**defaults, **given})


def test_every_call_of_hooks_and_functions_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, node = new_plugin("our-vo", tmp_path), make_node("kubernetes_pod", tmp_path / "nodes")
    assert run_trace(asked(made, root=str(node.root), json=True)) == 0
    calls = json.loads(capsys.readouterr().out)
    assert [(call["hook"], call["what"]) for call in calls] == [
        *((f"pilot_{name}", "") for name in ("options", "probes", "setups", "checks", "services")),
        ("pilot_probes", "our_vo_software"),
    ]
    assert calls[-1]["result"][0]["value"]["name"] == "our_vo.software"
    assert calls[-1]["arguments"]["context"]["root"] == str(node.root)


def test_a_page_shows_the_plugins_own_options_and_what_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, node = new_plugin("our-vo", tmp_path), make_node("kubernetes_pod", tmp_path / "nodes")
    source = made / "src" / "pilot_our_vo" / "plugin.py"
    source.write_text(
        source.read_text().replace("    path = _option", '    raise OSError("no area")\n    path = _option')
    )
    options = ['plugins.options={"our_vo": {"software": "/opt/own"}}']
    assert run_trace(asked(made, root=str(node.root), set=options)) == 0
    page = capsys.readouterr().out
    assert "our_vo: pilot_probes in " in page
    assert "gave Probe(name='our_vo_software'" in page
    assert '{"software": "/opt/own"}' in page
    assert "OSError: no area" in " ".join(page.partition("failed")[2].split())  # lines are folded


def test_a_recording_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PilotError, match="there is no such directory"):
        run_trace(asked(new_plugin("our-vo", tmp_path), root=str(tmp_path / "nowhere")))


def test_the_list_has_version_origin_and_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = new_plugin("our-vo", tmp_path)
    chosen = ["--set", f'plugins.directories=["{made}/src"]', "--set", 'plugins.load=["pilot_our_vo.plugin"]']
    assert main(["plugin", "list", "--json", *chosen]) == 0
    own = json.loads(capsys.readouterr().out)[-1]
    assert (own["name"], own["origin"], own["declared"]) == ("pilot_our_vo.plugin", "local", 5)
    assert own["seconds"] > 0
