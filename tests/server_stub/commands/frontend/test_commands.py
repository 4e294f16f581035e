"""The frontend's commands: from nothing to a file that is read, and what the running one shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import structlog

from pilot_agent.config_read import parse_document
from server_stub.commands.frontend.looking import status_lines
from server_stub.commands.frontend.program import FRONTEND
from server_stub.commands.tree import run_program
from server_stub.entries import parse_factory
from server_stub.frontend.configuration import read_frontend
from server_stub.frontend.daemon import Daemon
from tests.server_stub.frontend.conftest import world
from tests.server_stub.frontend.factory_double import entry
from tests.server_stub.frontend.world import World

__all__ = ["world"]


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run_program(FRONTEND, words)
    told = capsys.readouterr()
    return code, told.out, told.err


def configured(world: World) -> str:
    path = world.directory / "frontend.yaml"
    path.write_text(json.dumps(world.document))
    return str(path)


@pytest.mark.parametrize(
    ("level", "more", "lines"), [("warning", (), 0), ("info", (), 1), ("debug", (), 2), ("warning", ("--verbose",), 2)]
)
def test_as_much_is_logged_as_the_environment_or_the_command_line_asks_for(
    world: World,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    level: str,
    more: tuple[str, ...],
    lines: int,
) -> None:
    class Talking(Daemon):
        def run(self) -> None:
            log = structlog.get_logger("server_stub.frontend")
            log.info("cycle")
            log.debug("entry")

    monkeypatch.setattr("server_stub.frontend.daemon.Daemon", Talking)
    monkeypatch.setenv("PILOT_LOG_LEVEL", level)
    before = structlog.get_config()
    try:
        code, _, told = said(capsys, "run", "--config", configured(world), *more)
    finally:
        structlog.configure(**before)
    assert (code, len(told.splitlines())) == (0, lines)


def test_init_makes_a_frontend_that_is_read_and_tells_what_factories_need(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], document: dict[str, Any]
) -> None:
    words = ("init", str(tmp_path / "new"), "--vo", "example", "--collector", "cm.example.org:9618")
    code, told, _ = said(capsys, *words)
    assert code == 0
    frontend = read_frontend(str(tmp_path / "new" / "frontend.yaml"))
    assert frontend.settings.vo.name == "example"
    assert Path(frontend.key).stat().st_mode & 0o777 == 0o600
    # What it tells can be written into a factory's file as it is.
    block = told.partition("under frontends:\n\n")[2].partition("\nRead ")[0]
    frontends = parse_document(f"frontends:\n{block}".encode(), "factory.yaml")["frontends"]
    factory = parse_factory({**document, "frontends": frontends}, str(tmp_path))
    assert [one.name for one in factory.frontends] == ["example-frontend"]
    assert said(capsys, "key", "--config", str(tmp_path / "new" / "frontend.yaml"))[1].splitlines()[1] in block
    code, _, error = said(capsys, *words)
    assert (code, "nothing was written" in error) == (2, True)


def test_init_refuses_what_no_file_could_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = said(
        capsys, "init", str(tmp_path / "new"), "--name", "a b", "--collector", "a:b:c", "--url", "ftp://x"
    )
    assert code == 2
    assert all(word in error for word in ("--name 'a b'", "--collector 'a:b:c'", "--url 'ftp://x'"))
    assert not list(tmp_path.iterdir())


def test_status_and_entries_show_what_the_last_cycle_saw(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.factory.entries.append(entry("shut", closed="downtime: switches"))
    path = configured(world)
    code, _, error = said(capsys, "status", "--config", path)
    assert (code, "pilot-frontend run" in error) == (2, True)
    code, told, _ = said(capsys, "entries", "--config", path)
    assert (code, told.startswith("no factory has offered anything yet")) == (0, True)
    assert json.loads(said(capsys, "entries", "--config", path, "--json")[1]) == []
    world.cycle()
    code, told, _ = said(capsys, "status", "--config", path)
    assert code == 0
    assert "40 idle jobs" in told
    assert "east answers" in told
    rows = {line.split()[0]: line for line in told.splitlines() if line}
    assert rows["shut"].endswith("downtime: switches")
    assert json.loads(said(capsys, "status", "--config", path, "--json")[1])["schema"] == "pilot-frontend/status/1"
    entries = json.loads(said(capsys, "entries", "--config", path, "--json")[1])
    assert {one["entry"]: one["why_not"] for one in entries} == {
        "small": "", "large": "", "shut": "downtime: switches",
    }  # fmt: skip
    assert "16000 MiB" in said(capsys, "entries", "--config", path)[1]


def test_status_tells_that_it_is_frozen_and_that_nothing_runs(world: World) -> None:
    world.cycle()
    world.pool.loses("jobsap1")
    told = world.cycle()
    lines = "\n".join(status_lines(told, told["at"] + 10_000))
    assert "FROZEN for 1 cycle," in lines
    assert "ap1 (SECMAN:2010" in lines
    assert "IT DOES NOT RUN" in lines


def test_pilots_are_those_that_the_factories_tell(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    code, told, _ = said(capsys, "pilots", "--config", configured(world), "--entry", "small@east")
    assert code == 0
    assert told.splitlines()[1].split() == ["p1", "east", "small", "running", "example"]
    assert world.factory.asked[-1][1].endswith("entry=small&state=&limit=500")


def test_check_tells_what_is_wrong_and_ends_accordingly(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.document["pool"] = {"collectors": ["127.0.0.1:9"], "most_seconds": 20, "parameters": {"NO_DNS": "true"}}
    code, told, _ = said(capsys, "check", "--config", configured(world))
    assert code == 65
    assert "the collector 127.0.0.1:9" in told
    assert "factory east" in told
