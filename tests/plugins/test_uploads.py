"""Where uploads may go: a token only where the way is protected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pilot_agent.config import load_config
from pilot_agent.config_read import command_line_layer
from pilot_agent.model import PilotError
from pilot_agent.plugins.uploads import prepare
from pilot_agent.workspace import Workspace
from tests.probes.servers import TLS


def plan_of(tmp_path: Path, **upload: str) -> Path:
    config = load_config([command_line_layer([f"upload.{name}={value}" for name, value in upload.items()])])
    workspace = Workspace(str(tmp_path / "pilot-1"))
    prepare(config, workspace, pilot_id="4f3a", version="1", interpreter=["python3"], environment={})
    return Path(workspace.upload, "plan.json")


def test_without_an_address_there_is_no_plan(tmp_path: Path) -> None:
    assert not plan_of(tmp_path).exists()


@pytest.mark.parametrize(
    "upload",
    [
        {"url": "http://10.0.0.1:8080/pilots/7/"},
        {"url": "https://f.example.org/up", "token": "/t"},
    ],
)
def test_an_address_is_kept_with_the_command_that_uploads(tmp_path: Path, upload: dict[str, str]) -> None:
    plan = json.loads(plan_of(tmp_path, **upload).read_text())
    assert plan["url"] == upload["url"].rstrip("/")
    assert plan["argv"] == ["python3", "_upload", str(tmp_path / "pilot-1")]
    assert plan["pilot_id"] == "4f3a"


@pytest.mark.parametrize(
    ("upload", "code"),
    [
        ({"url": "http://f.example.org/up", "token": "/t"}, "upload.insecure"),
        ({"url": "ftp://f.example.org/up"}, "upload.url"),
        ({"url": "https://user:word@f.example.org/up"}, "upload.url"),
        ({"url": "https:///up"}, "upload.url"),
        ({"url": "https://[f/up"}, "upload.url"),
        ({"url": "https://f.example.org/up?key=1"}, "upload.url"),
    ],
)
def test_an_address_that_will_not_do_is_refused(tmp_path: Path, upload: dict[str, str], code: str) -> None:
    with pytest.raises(PilotError) as raised:
        plan_of(tmp_path, **upload)
    assert raised.value.failure.code == code
    assert "word" not in raised.value.failure.message


def test_authorities_are_named_by_a_path_that_holds_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TLS)
    plan = json.loads(plan_of(tmp_path, url="https://f.example.org/up", authorities="ca.pem").read_text())
    assert plan["authorities"] == str(TLS / "ca.pem")


@pytest.mark.parametrize(
    ("name", "found"), [("gone.pem", "no such file"), ("README.md", "no certificate"), ("", "is a")]
)
def test_authorities_by_which_every_upload_would_fail_are_refused(tmp_path: Path, name: str, found: str) -> None:
    with pytest.raises(PilotError) as raised:
        plan_of(tmp_path, url="https://f.example.org/up", authorities=str(TLS / name))
    assert (raised.value.failure.code, raised.value.failure.exit_code) == ("upload.authorities", 66)
    assert f"{TLS / name}: " in raised.value.failure.message
    assert found in raised.value.failure.message
