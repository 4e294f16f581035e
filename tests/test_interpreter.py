"""The command that runs this program again."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pilot_agent.interpreter import interpreter_command


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
