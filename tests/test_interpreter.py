"""The command that runs this program again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pilot_agent.interpreter import interpreter_command, module_command


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOT_AGENT_INTERPRETER", '["/ld.so", "/python", "-I"]')
    monkeypatch.setenv("PILOT_AGENT_PAYLOAD", "/pilot.pyz")
    assert interpreter_command() == ["/ld.so", "/python", "-I", "/pilot.pyz"]


@pytest.mark.parametrize("value", ["[]", "{}", "[1]", "python3", '[""]'])
def test_anything_but_a_list_of_words_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PILOT_AGENT_INTERPRETER", value)
    with pytest.raises(ValueError, match=r"."):
        interpreter_command()


def test_a_checkout_runs_itself_from_any_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PILOT_AGENT_INTERPRETER", raising=False)
    monkeypatch.delenv("PILOT_AGENT_PAYLOAD", raising=False)
    command = interpreter_command()
    assert command[0] == sys.executable
    done = subprocess.run([*command, "--version"], cwd="/", env={}, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("pilot-agent ")


def test_one_module_is_run_without_what_an_archive_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PILOT_AGENT_INTERPRETER", raising=False)
    settings = {
        "fetches": True,
        "store": str(tmp_path),
        "limit_mib": 1,
        "form": "file",
        "runtime": "/bin/false",
        "environment": {},
    }
    (tmp_path / "settings").write_text(json.dumps(settings))
    command = module_command("pilot_agent.image_hook")
    command.insert(command.index("-c"), "-v")
    words = [*command, "--verify", str(tmp_path / "settings")]
    done = subprocess.run(words, cwd="/", env={}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = {line.split("'")[1] for line in done.stderr.splitlines() if line.startswith("import '")}
    assert "pilot_agent.containers.store.store" in loaded
    assert loaded.isdisjoint({"runpy", "hashlib", "json", "re", "typing", "dataclasses", "pilot_agent.__main__"})
