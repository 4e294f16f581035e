"""Each contributed plugin is a distribution of its own that a pilot loads, and knows nothing but the contract."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.child import ENTRY_POINT_GROUP
from pilot_agent.config import load_config
from pilot_agent.host import Loaded, Surroundings, load_plugins
from pilot_agent.interpreter import interpreter_command
from tests.contributed import PLUGINS, ROOT, install

CONTRACT = ("pilot_agent.hookspecs", "pilot_agent.model", "pilot_agent.process", "pilot_agent.trust.local")
PLUGIN = pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)


def project(plugin: Path) -> dict[str, Any]:
    """What a plugin's ``pyproject.toml`` says."""
    return tomllib.loads((plugin / "pyproject.toml").read_text(encoding="utf-8"))


def of_the_agent(source: Path) -> list[str]:
    """Modules of the agent that a file imports."""
    found = []
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            # From the package itself a module is imported.
            whole = node.module == "pilot_agent"
            found += [f"{node.module}.{alias.name}" for alias in node.names] if whole else [node.module]
    return [name for name in found if name.partition(".")[0] == "pilot_agent"]


def test_there_are_contributed_plugins() -> None:
    assert PLUGINS


@PLUGIN
def test_a_plugin_is_a_distribution_with_tests_and_a_page(plugin: Path) -> None:
    described = project(plugin)["project"]
    assert described["name"] == f"pilot-agent-{plugin.name.replace('_', '-')}"
    assert described["requires-python"] == ">=3.11"
    assert described["license"]
    assert not described.get("dependencies"), "the payload carries no libraries for plugins"
    assert list((plugin / "tests").glob("test_*.py"))
    assert (plugin / "README.md").read_text(encoding="utf-8").startswith("# ")


@PLUGIN
def test_a_plugin_imports_nothing_of_the_agent_but_the_contract(plugin: Path) -> None:
    sources = sorted((plugin / "src").rglob("*.py"))
    assert sources
    beyond = [f"{path.name}: {name}" for path in sources for name in of_the_agent(path) if name not in CONTRACT]
    assert beyond == []


@PLUGIN
def test_a_plugins_types_are_checked(plugin: Path) -> None:
    checked = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]["mypy_path"]
    assert f"$MYPY_CONFIG_FILE_DIR/plugins_contrib/{plugin.name}/src" in checked, (
        "add it to mypy_path in pyproject.toml"
    )


@PLUGIN
def test_a_pilot_loads_it_by_its_entry_points_and_its_page_names_its_options(plugin: Path, tmp_path: Path) -> None:
    directory = install(plugin.name, tmp_path)
    page = (plugin / "README.md").read_text(encoding="utf-8")
    for name in project(plugin)["project"]["entry-points"][ENTRY_POINT_GROUP]:
        loaded = load(name, directory)
        [report] = [report for report in loaded.plugins if report.name == name]
        assert Path(report.source).is_relative_to(directory)
        assert report.declared or "pilot_event" in report.hooks
        options = [declared.record.name for declared in loaded.of("pilot_options")]
        assert [option for option in options if f"`{option}`" not in page] == []


def load(name: str, directory: Path) -> Loaded:
    """A plugin with its default options, loaded as a pilot does it."""
    around = Surroundings(tuple(interpreter_command()), {"PATH": "/usr/bin:/bin"}, (str(directory),))
    return load_plugins([name], load_config([]).values, around, timeout_seconds=60.0)
