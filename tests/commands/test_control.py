"""The pages of status, drain and stop, and how the pilots of an account are found."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pilot_agent.commands.control import live_pilots, overview, page, run_command, run_status
from pilot_agent.model import PilotError

ROOT = Path(__file__).parents[2]
STATUS: dict[str, Any] = {
    "schema": "pilot-agent/status/1", "id": "abc", "version": "1", "pid": 12, "host": "wn1", "started": 1000.0,
    "workspace": "/scratch/with/a/rather/long/name/that/goes/on/pilot-abc", "output": "/scratch/job",
    "up_seconds": 75.2, "stage": "run", "draining": False, "not_accepting": [], "jobs_running": 3, "deadline": 8000.0,
    "left_seconds": 6924.8, "token_expires": 1500, "suspended_seconds": 0.0,
    "services": [{"name": "triton", "status": "ready"}],
    "events": [{"seconds": 70.0, "event": "pool.joined"}, {"seconds": 71.0, "event": "x", "text": "a\x1b[31mb" * 40}],
}  # fmt: skip

REPORTED: dict[str, Any] = {
    "condor": {"source": "tarball", "place": "/opt/condor/with/a/long/name/condor-23.9.6.tar.gz", "version": "23.9.6"},
    "startd": {
        "slots": [
            {"count": 2, "cores": 4, "memory_mib": 8000, "disk": 50, "gpus": 1, "partitionable": True,
             "resources": {"licences": 3}, "only_for": ""},
            {"count": 1, "cores": 1, "memory_mib": 512, "disk": None, "gpus": 0, "partitionable": False,
             "resources": {}, "only_for": "ioslot"},
        ],
        "policies": [{"key": "startd.start", "layer": "vo", "expression": "TARGET.Owner =!= \"x\\x1b[31m\""}],
        "transfer_plugins": [
            {"path": "/usr/libexec/condor/box_plugin.py", "schemes": ["box", "gdrive"], "problem": ""},
            {"path": "/opt/broken", "schemes": [], "problem": "it exited 1"},
        ],
        "job_cgroups": {"used": True, "reason": "", "group": "/sys/fs/cgroup/batch/job_7",
                        "controllers": ["cpu", "memory"], "memory_limit": "hard"},
    },
    "time": {"summary": "ends at 1970-01-01 02:20:00 UTC because the batch job ends", "to_die": 8000.0},
}  # fmt: skip
"""What a pilot's report says of its HTCondor."""

# A pilot that answers every request with itself and the request.
GUARDIAN = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from pilot_agent.lifecycle.control import ControlSocket
status = {"id": "abc", "workspace": os.path.dirname(sys.argv[2]), "output": sys.argv[3], "stage": "run",
          "jobs_running": 1, "pid": os.getpid()}
control = ControlSocket(sys.argv[2], "control.sock", lambda request: {**status, "asked": request})
print("ready", flush=True)
while True:
    control.serve()
    time.sleep(0.01)
"""


@pytest.fixture
def guardian(tmp_path: Path) -> Iterator[Path]:
    """Something that listens like a guardian, seen by a sibling; its workspace."""
    private = tmp_path / "pilot-abc" / "private"
    private.mkdir(parents=True)
    (tmp_path / "out").mkdir()
    words = [sys.executable, "-c", GUARDIAN, str(ROOT), str(private), str(tmp_path / "out")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=tmp_path / "out") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield private.parent
        process.kill()


def arguments(command: str, directory: Path | None, **others: Any) -> argparse.Namespace:
    return argparse.Namespace(
        command=command, directory=None if directory is None else str(directory), json=True, **others
    )


def test_running_pilots_are_found_by_the_directory_they_hold(guardian: Path) -> None:
    assert str(guardian) in [found.workspace for found in live_pilots()]


@pytest.mark.parametrize("name", ["pilot-abc", "pilot-abc/private", "out", "."])
def test_workspace_output_and_start_directory_all_name_the_pilot(
    guardian: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_status(arguments("status", guardian.parent / name)) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "abc"


def test_a_fast_stop_is_asked_for(guardian: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(arguments("stop", guardian, fast=True)) == 0
    assert json.loads(capsys.readouterr().out)["asked"] == {"command": "stop", "fast": True}


@pytest.mark.parametrize("command", ["status", "drain", "stop"])
def test_a_directory_without_a_pilot_is_a_wrong_command_line(tmp_path: Path, command: str) -> None:
    with pytest.raises(PilotError) as caught:
        (run_status if command == "status" else run_command)(arguments(command, tmp_path))
    assert caught.value.failure.code == "control.nobody"
    assert caught.value.failure.exit_code == 2


def test_a_socket_without_a_pilot_behind_it_is_none(guardian: Path) -> None:
    socket = guardian / "private" / "control.sock"
    os.rename(socket, guardian / "private" / "other.sock")
    with pytest.raises(PilotError):
        run_status(arguments("status", guardian))


def test_the_page_tells_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = page(STATUS)
    for words in ("Pilot abc", "1 min 15 s", "1 h 55 min", "3 running", "12 on wn1", "triton: ready", "pool.joined"):
        assert words in text
    assert "expires in 7 min 4 s" in text


@pytest.mark.parametrize("width", [40, 60, 80, 132])
def test_pages_fit_the_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert max(map(len, page(STATUS).splitlines())) <= width
    if width >= 80:
        assert max(map(len, overview([STATUS, STATUS]).splitlines())) <= width


@pytest.mark.parametrize("width", [60, 80])
def test_the_page_says_what_the_pilot_offers_and_when_it_ends(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = page(STATUS | REPORTED)
    assert max(map(len, text.splitlines())) <= width
    shown = " ".join(text.split())
    for words in (
        "HTCondor 23.9.6, tarball,",
        "2 slots, each 4 cores, 7.8 GiB memory, 50 % of the disk, 1 GPU, 3 licences, partitionable",
        "1 slot: 1 core, 512.0 MiB memory, only for ioslot",
        "startd.start of vo:",
        "box_plugin.py takes box, gdrive",
        "broken is left out: it exited 1",
        "one for each job below /sys/fs/cgroup/batch/job_7: cpu, memory; a job ends at its slot's memory",
        "because the batch job ends",
    ):
        assert words in shown
    assert "\x1b" not in text


def test_control_groups_that_jobs_do_not_have_are_left_to_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert "Cgroups" not in page(STATUS | {"startd": {"job_cgroups": {"used": False, "reason": "not delegated"}}})
    counted = {"used": True, "group": "/g", "controllers": ["memory"], "memory_limit": "none"}
    assert "/g: memory; nothing is limited\n" in page(STATUS | {"startd": {"job_cgroups": counted}})


def test_an_end_that_was_moved_is_told_without_the_old_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = page(STATUS | REPORTED | {"deadline": 90061.0})
    assert "1970-01-02 01:01:01 UTC" in text
    assert "because" not in text


@pytest.mark.parametrize("damage", [[], 3, "x", {"slots": 3}, {"slots": [3, {"cores": "x"}], "policies": {}}, None])
def test_a_damaged_report_does_no_harm_to_the_page(damage: Any) -> None:
    assert "Pilot abc" in page(STATUS | {"startd": damage, "condor": damage, "time": damage})


def test_the_status_has_what_the_report_says_so_far(guardian: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_status(arguments("status", guardian)) == 0
    assert json.loads(capsys.readouterr().out)["startd"] is None
    (guardian / "report.json").write_text(json.dumps(REPORTED | {"node": {}}))
    assert run_status(arguments("status", guardian)) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {name: answer[name] for name in REPORTED} == REPORTED
    assert "node" not in answer


@pytest.mark.parametrize("content", ["", "[1]", "{", None])
def test_a_report_that_cannot_be_read_is_no_obstacle(
    guardian: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    if content is None:
        os.mkfifo(guardian / "report.json")
    else:
        (guardian / "report.json").write_text(content)
    assert run_status(arguments("status", guardian)) == 0
    assert json.loads(capsys.readouterr().out)["condor"] is None


def test_the_page_says_why_no_job_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert "no further one begins" not in page(STATUS)
    assert "3 running; no further one begins: disk, draining" in page(STATUS | {"not_accepting": ["disk", "draining"]})


@pytest.mark.parametrize(("joined", "said"), [(True, "Pool       joined"), (False, "not joined yet"), (None, None)])
def test_the_page_says_whether_the_pilot_is_in_its_pool(
    monkeypatch: pytest.MonkeyPatch, joined: bool | None, said: str | None
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = page(STATUS | {"joined": joined})
    assert said in text if said else "Pool" not in text


def test_a_failure_among_the_events_is_told_by_code_and_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    failure = {"kind": "config", "code": "a.b", "message": "it is so", "hint": "change it", "signal": None}
    text = page(STATUS | {"events": [{"seconds": 1.0, "event": "pilot.ending", "failure": failure}]})
    assert "failure=a.b: it is so" in text
    assert "hint" not in text


def test_a_pilot_that_does_not_answer_is_listed_all_the_same() -> None:
    silent = {"id": "def", "workspace": "/scratch/pilot-def", "stage": "no answer", "problem": "it did not answer"}
    assert "no answer" in overview([STATUS, silent])
    assert "may be suspended" in page(silent)
