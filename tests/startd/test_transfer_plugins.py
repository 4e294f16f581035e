"""Plugins for file transfer are offered when they answer; the others are left out with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilot_agent.model import FailureKind, PilotError
from pilot_agent.startd import transfer_plugins
from pilot_agent.startd.transfer_plugins import ask_plugins, plugin_paths

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def program(directory: Path, name: str, script: str) -> str:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_what_answers_is_taken_with_its_schemes(tmp_path: Path) -> None:
    good = program(tmp_path, "good", '[ "$1" = -classad ] && echo \'SupportedMethods = "http, https"\'')
    (found,) = ask_plugins([good], ENVIRONMENT)
    assert (found.path, found.schemes, found.problem) == (good, ("http", "https"), "")


def test_what_fails_is_left_out_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer_plugins, "DEADLINE_SECONDS", 3.0)
    good = program(tmp_path, "good", "echo 'SupportedMethods = \"http\"'")
    others = [
        program(tmp_path, "fails", "echo 'no library' >&2; exit 3"),
        program(tmp_path, "silent", "exit 0"),
        program(tmp_path, "hangs", "exec sleep 600"),
        program(tmp_path, "none", "echo 'SupportedMethods = \"\"'"),
        str(tmp_path / "missing"),
    ]
    found = ask_plugins([*others, good], ENVIRONMENT)
    assert [plugin.path for plugin in found if plugin.schemes] == [good]
    problems = [plugin.problem for plugin in found[:-1]]
    assert all(problems)
    assert "names no methods" in problems[1]


@pytest.mark.parametrize("paths", [(), ("/nowhere/plugin",)])
def test_without_any_no_job_can_start_and_the_site_must_act(paths: tuple[str, ...]) -> None:
    with pytest.raises(PilotError) as caught:
        ask_plugins(paths, ENVIRONMENT)
    assert caught.value.failure.kind is FailureKind.NODE_RESOURCE
    assert caught.value.failure.code == "condor.transfer_plugins"


def test_configured_ones_come_after_htcondors_own() -> None:
    found = plugin_paths(["/lib/curl_plugin"], ["stash_plugin", "/opt/x", "curl_plugin"], "/lib")
    assert found == ("/lib/curl_plugin", "/lib/stash_plugin", "/opt/x")
