"""``plugin new``, ``test`` and ``pack`` as an author uses them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from pilot_agent.environment import clean_environment
from pilot_agent.interpreter import INTERPRETER_VARIABLE, own_path
from pilot_agent.model import PilotError
from pilot_agent.process import Result, run
from pilot_agent.sdk.scaffold import new_plugin
from pilot_agent.sdk.tester import find_tester


def pilot_agent(directory: Path, *arguments: str) -> Result:
    """How a command ends in this directory."""
    environment = clean_environment(dict(os.environ), home=str(directory), temporary=str(directory))
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    argv = [sys.executable, "-I", "-B", "-X", "utf8", own_path(), *arguments]
    return run(argv, deadline_seconds=300, environment=environment, directory=str(directory))


def test_a_new_plugin_passes_its_tests_and_is_packed_to_what_a_pilot_loads(tmp_path: Path) -> None:
    made = pilot_agent(tmp_path, "plugin", "new", "our-vo")
    assert made.ok, made.explain()
    assert "our-vo/tests/test_our_vo.py" in made.text
    tested = pilot_agent(tmp_path, "plugin", "test", "our-vo")
    assert tested.ok, tested.stdout.decode() + tested.stderr.decode()
    for part in (
        "7 passed",
        "in a container",
        "our_vo_tools",
        "on this machine",
        "our_vo_beat",
        "pilot-our-vo: passed",
    ):
        assert part in tested.text
    packed = pilot_agent(tmp_path, "plugin", "pack", "our-vo", "--json")
    told = json.loads(packed.stdout)
    assert Path(told["file"]) == tmp_path / "our-vo" / "dist" / "pilot_our_vo-0.1.0-py3-none-any.whl"
    assert [plugin["declared"] for plugin in told["plugins"]] == [5]
    again = pilot_agent(tmp_path, "plugin", "pack", "our-vo", "--json", "--output", "elsewhere")
    assert json.loads(again.stdout)["sha256"] == told["sha256"]


def test_a_plugin_that_fails_is_told_and_is_not_packed_where_it_does_not_load(tmp_path: Path) -> None:
    new_plugin("our-vo", tmp_path)
    source = tmp_path / "our-vo" / "src" / "pilot_our_vo" / "plugin.py"
    good = source.read_text()
    source.write_text(good.replace("    path = _option", '    raise OSError("no such area")\n    path = _option'))
    (tmp_path / "our-vo" / "tests" / "test_our_vo.py").write_text("def test_nothing():\n    pass\n")
    tested = pilot_agent(tmp_path, "plugin", "test", "our-vo", "--", "-k", "nothing")
    assert tested.code == 69
    assert "no such area" in tested.text
    assert "pilot-our-vo: FAILED" in tested.text
    source.write_text(good.replace("def pilot_probes", "def pilot_proves"))
    packed = pilot_agent(tmp_path, "plugin", "pack", "our-vo")
    assert packed.code == 68
    assert b"pilot_proves" in packed.stderr
    assert not (tmp_path / "our-vo" / "dist").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Our VO", "cannot be the name"),
        ("../x", "cannot be the name"),
        ("vo", "of the pilot's own"),
        ("there", "is there"),
    ],
)
def test_a_name_that_cannot_be_is_refused_and_nothing_is_written(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(PilotError, match=reason):
        new_plugin(name, tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_a_directory_without_a_plugin_is_told_what_makes_one(tmp_path: Path) -> None:
    for word in ("test", "pack"):
        ended = pilot_agent(tmp_path, "plugin", word)
        assert ended.code == 2
        assert b"plugin new NAME" in ended.stderr


PYTHON = """#!/bin/sh
# Plays a Python without pytest, which makes virtual environments whose pip {works}.
case "$*" in
*"import pytest"*) exit 1;;
*ensurepip*) exit {makes};;
*"-m venv"*) for place in "$@"; do :; done; mkdir -p "$place/bin"; cp "$0" "$place/bin/python";;
*"-m pip install"*) echo "$*" >> "{log}"; exit {installs};;
esac
"""


def playing(directory: Path, monkeypatch: pytest.MonkeyPatch, *, makes: int = 0, installs: int = 0) -> Path:
    """Let such a Python be the pilot's own, and the only one; its log."""
    python, log = directory / "python3", directory / "pip.log"
    text = PYTHON.replace("{log}", str(log)).replace("{makes}", str(makes)).replace("{installs}", str(installs))
    python.write_text(text)
    python.chmod(0o755)
    monkeypatch.setenv(INTERPRETER_VARIABLE, json.dumps([str(python), "-I", "-B"]))
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    return log


def test_without_pytest_a_private_one_is_made_with_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = playing(tmp_path, monkeypatch)
    plugin = tmp_path / "plugin"
    plugin.mkdir()
    said: list[str] = []
    tester = find_tester(plugin, said.append)
    assert tester.words[0] == str(plugin / ".pilot-agent" / "venv" / "bin" / "python")
    assert "making a virtual environment" in said[0]
    assert "pip install -q pytest" in log.read_text()
    assert (plugin / ".pilot-agent" / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize(("makes", "installs", "reason"), [(1, 0, "none can make"), (0, 1, "cannot be made.*pip")])
def test_where_no_pytest_can_be_had_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, makes: int, installs: int, reason: str
) -> None:
    playing(tmp_path, monkeypatch, makes=makes, installs=installs)
    with pytest.raises(PilotError, match=reason) as caught:
        find_tester(tmp_path, lambda _: None)
    assert "python3-pytest" in caught.value.failure.hint
    assert not (tmp_path / ".pilot-agent" / "venv").exists()


def test_this_python_is_taken_where_it_has_pytest(tmp_path: Path) -> None:
    tester = find_tester(tmp_path, pytest.fail)
    assert tester.words[0] == sys.executable
    assert not any(name.startswith("PYTEST") for name in tester.environment)
