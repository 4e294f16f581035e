"""A payload carries the plugins that a factory chose, and a pilot loads them from it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from payload.console import BuildError
from payload.plugins import Plugin, read_plugin, read_plugins

from tests.packaging.conftest import PYPROJECT, Built, forms, plugin_source, start


def wheel(path: Path, plugin: Plugin, **more: bytes) -> Path:
    """A wheel with the files of a plugin and others."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**plugin.files, "example_vo-2.5.dist-info/RECORD": b"", **more}.items():
            archive.writestr(name, content)
    return path


CHOSEN = ["--set", 'plugins.load=["example"]', "--set", 'plugins.options={"example": {"colour": "blue"}}']


def test_a_pilot_loads_by_its_name_what_the_payload_carries(built: Built, kept: dict[str, str]) -> None:
    for command in forms(built).values():
        done = start([*command, "plugins", "--json", *CHOSEN], kept)
        assert done.returncode == 0, done.stderr
        [plugin] = [plugin for plugin in json.loads(done.stdout) if plugin["name"] == "example"]
        assert "Example_blue_hello" in {record["name"] for record in plugin["records"]}


def test_a_plugin_that_the_payload_does_not_carry_is_told_with_those_that_it_does(built: Built) -> None:
    done = start([*forms(built)["pyz"], "plugins", "--set", 'plugins.load=["exampel"]'])
    assert done.returncode == 68
    assert "in the payload: example" in done.stderr


def test_the_manifest_names_the_plugin(built: Built) -> None:
    with zipfile.ZipFile(built.pyz) as archive:
        components = json.loads(archive.read("MANIFEST.json"))["components"]
    [component] = [one for one in components if one["name"] == "example-vo"]
    assert (component["version"], component["licence"]) == ("2.5", "MIT")


def test_a_plugin_is_read_from_its_directory_and_from_a_wheel_alike(tmp_path: Path) -> None:
    plugin = read_plugin(plugin_source(tmp_path / "source"))
    assert plugin == read_plugin(wheel(tmp_path / "example_vo-2.5-py3-none-any.whl", plugin))
    assert (plugin.entry_points, plugin.packages) == (("example",), ("example_vo",))
    assert sorted(plugin.files) == [
        "example_vo-2.5.dist-info/METADATA",
        "example_vo-2.5.dist-info/entry_points.txt",
        "example_vo-2.5.dist-info/licenses/LICENSE",
        "example_vo/__init__.py",
        "example_vo/hooks.py",
        "example_vo/word.txt",
    ]


def test_what_is_no_plugin_is_refused_with_the_reason(tmp_path: Path) -> None:
    plugin = read_plugin(plugin_source(tmp_path / "source"))
    broken = tmp_path / "broken.whl"
    broken.write_bytes(b"no zip")
    nameless = plugin_source(
        tmp_path / "nameless", pyproject=PYPROJECT.replace('version = "2.5"', 'dynamic = ["version"]')
    )
    hookless = plugin_source(tmp_path / "hookless", pyproject=PYPROJECT.replace("pilot_agent]", "console_scripts]"))
    garbled = plugin_source(tmp_path / "garbled", pyproject="[project")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "pyproject.toml").write_text(PYPROJECT.replace("{needs}", ""))
    refused = {
        tmp_path / "nothing": "a directory with a pyproject.toml",
        broken: "cannot be read",
        nameless: r"has no \[project\] version",
        hookless: r'\[project.entry-points.pilot_agent\] NAME = "MODULE"',
        garbled: "pyproject.toml cannot be read",
        empty: "holds no code",
        wheel(tmp_path / "a.whl", plugin, **{"example_vo/fast.so": b""}): "compiled code, example_vo/fast.so",
        wheel(tmp_path / "b.whl", plugin, **{"example_vo-2.5.data/scripts/x": b""}): "outside its packages",
    }
    for path, reason in refused.items():
        with pytest.raises(BuildError, match=reason):
            read_plugin(path)


def test_plugins_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    first, second = plugin_source(tmp_path / "first"), plugin_source(tmp_path / "second")
    (second / "src/example_vo").rename(second / "src/other_vo")
    with pytest.raises(BuildError, match="both have the entry point example"):
        read_plugins([first, second], [], [])
    with pytest.raises(BuildError, match="both bring example_vo"):
        read_plugins([first, first], [], [])
    with pytest.raises(BuildError, match="the agent or a library both bring example_vo"):
        read_plugins([first], ["example_vo"], [])


def test_a_plugin_may_require_only_what_the_payload_carries(tmp_path: Path) -> None:
    plugin = plugin_source(tmp_path, needs='"pyyaml>=6", "example.vo", "numpy>=2", "rich; extra == \'pretty\'"')
    with pytest.raises(BuildError, match="example-vo requires numpy, which the payload does not carry"):
        read_plugins([plugin], [], ["PyYAML"])
