"""What it takes to tell the pool of a failure is left in the workspace, and is of the HTCondor that the pilot runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pilot_agent.config import load_config
from pilot_agent.config_read import command_line_layer
from pilot_agent.model import PilotError
from pilot_agent.plugins.obituary import Deceased, prepare
from pilot_agent.workspace import Workspace
from tests.startd.published import install

TOOL = "sbin/condor_advertise"


@pytest.fixture(autouse=True)
def no_htcondor_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pilot_agent.startd.discovery.USUAL_SBIN", ("/nonexistent/sbin",))


def release(directory: Path) -> str:
    install(directory)
    (directory / TOOL).write_text("#!/bin/sh\n")
    (directory / TOOL).chmod(0o755)
    return str(directory)


def prepared(tmp_path: Path, *values: str, taken: str = "", path: str = "/usr/bin", started: bool = True) -> Workspace:
    workspace = Workspace(str(tmp_path / "pilot-1"))
    Path(workspace.tokens).mkdir(parents=True)
    Path(workspace.tokens, "pool").write_text("x")
    collectors = 'pool.collectors=["cm1.example.org:9618,cm1.example.org:9618;127.0.0.1:9620-9621"]'
    words = [collectors, "pool.token=/t", "startd.no_dns=true", *values]
    config = load_config([command_line_layer(words)])
    pilot = Deceased("4f3a", "wn1", config, {"PATH": path}, {}, release=taken)
    prepare(pilot, workspace, started=started)
    return workspace


def tool(workspace: Workspace) -> str:
    plan = json.loads(Path(workspace.obituary, "plan.json").read_text())
    return str(plan["argv"][0])


def test_the_tool_is_of_the_htcondor_that_was_taken_wherever_it_came_from(tmp_path: Path) -> None:
    taken, site = release(tmp_path / "artifacts"), release(tmp_path / "site")
    found = prepared(tmp_path, f"startd.condor_directory={site}", taken=taken, path=f"{site}/sbin")
    assert tool(found) == f"{taken}/{TOOL}"


@pytest.mark.parametrize("source", ["path", "Directory", "cvmfs"])
def test_before_one_was_taken_it_is_looked_for_where_the_pilot_looks(tmp_path: Path, source: str) -> None:
    site = release(tmp_path / "site")
    values = {"Directory": [f"startd.condor_directory={site}"]}.get(source, ["startd.condor_directory=/nowhere"])
    order = f'startd.condor_source=["tarball", "{source}"]'
    if source == "cvmfs":
        with pytest.raises(PilotError, match="condor_master is not in /cvmfs/x"):
            prepared(tmp_path, order, 'startd.condor_cvmfs=["/cvmfs/x.example.org/condor"]', path=f"{site}/sbin")
        return
    assert tool(prepared(tmp_path, order, *values, path=f"{site}/sbin")) == f"{site}/{TOOL}"


def test_one_of_each_group_of_collectors_is_told(tmp_path: Path) -> None:
    site = release(tmp_path / "site")
    found = prepared(tmp_path, f"startd.condor_directory={site}", started=False)
    lines = Path(found.obituary, "condor_config").read_text().splitlines()
    (told,) = [line.partition(" = ")[2] for line in lines if line.startswith("COLLECTOR_HOST")]
    assert told.split(", ")[0].endswith(":9618")
    assert told.split(", ")[1] in ("127.0.0.1:9620", "127.0.0.1:9621")
