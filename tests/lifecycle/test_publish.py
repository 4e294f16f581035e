"""What leaves the node, within its bounds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pilot_agent.lifecycle import final_report, finish
from pilot_agent.lifecycle.publish import save_events, save_logs, save_report
from pilot_agent.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    root = tmp_path / "pilot-x"
    root.mkdir()
    made = Workspace(str(root))
    made.create()
    return made


def test_logs_of_htcondor_and_of_services_are_copied(workspace: Workspace, tmp_path: Path) -> None:
    Path(workspace.condor_log, "StartLog").write_text("start")
    Path(workspace.services, "cache").mkdir()
    Path(workspace.services, "cache", "out.log").write_text("cache")
    Path(workspace.services, "cache", "data").write_text("not a log")
    assert save_logs(workspace, str(tmp_path / "out")) == []
    copied = {path.name: path.read_text() for path in (tmp_path / "out" / "logs").iterdir()}
    assert copied == {"StartLog": "start", "service-cache-out.log": "cache"}


def test_what_leaves_the_node_is_for_its_own_account_only(workspace: Workspace, tmp_path: Path) -> None:
    Path(workspace.condor_log, "StartLog").write_text("start")
    Path(workspace.events).write_text("{}\n")
    output = tmp_path / "out"
    output.mkdir()
    (output / "events.jsonl").touch(mode=0o644)  # of an earlier pilot
    assert save_logs(workspace, str(output)) == save_events(workspace, str(output)) == []
    assert save_report({"a": 1}, str(output))
    modes = {path.name: path.stat().st_mode & 0o777 for path in output.rglob("*")}
    assert modes == {"logs": 0o700, "StartLog": 0o600, "events.jsonl": 0o600, "report.json": 0o600}


@pytest.mark.parametrize(
    "name", ["startd_history", "startd_history.20260101T000000", "transfer_history", "XferStatsLog", "XferStatsLog.old"]
)
def test_users_job_ads_stay_on_the_node(workspace: Workspace, tmp_path: Path, name: str) -> None:
    Path(workspace.condor_log, name).write_text('Environment = "SECRET=x"\n*** end\n')
    Path(workspace.condor_log, "StarterLog.slot1_1").write_text("started")
    assert save_logs(workspace, str(tmp_path / "out")) == []
    assert os.listdir(tmp_path / "out" / "logs") == ["StarterLog.slot1_1"]


def test_of_big_logs_the_end_is_kept_within_the_limit(workspace: Workspace, tmp_path: Path) -> None:
    Path(workspace.condor_log, "Small").write_text("s" * 10)
    for name in ("BigA", "BigB"):
        Path(workspace.condor_log, name).write_text("x" * 5000 + "end")
    save_logs(workspace, str(tmp_path / "out"), limit_bytes=210)
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "out" / "logs").iterdir()}
    assert sizes == {"Small": 10, "BigA": 100, "BigB": 100}
    assert (tmp_path / "out" / "logs" / "BigA").read_text().endswith("xend")


def test_a_log_that_is_a_link_or_a_fifo_is_not_read(workspace: Workspace, tmp_path: Path) -> None:
    Path(workspace.condor_log, "link").symlink_to("/etc/passwd")
    os.mkfifo(Path(workspace.condor_log, "fifo"))
    assert save_logs(workspace, str(tmp_path / "out")) == []
    assert not (tmp_path / "out").exists()


def test_a_link_laid_in_the_output_directory_is_not_followed(workspace: Workspace, tmp_path: Path) -> None:
    Path(workspace.condor_log, "StartLog").write_text("start")
    (tmp_path / "out" / "logs").mkdir(parents=True)
    (tmp_path / "precious").write_text("x")
    (tmp_path / "out" / "logs" / "StartLog").symlink_to(tmp_path / "precious")
    assert len(save_logs(workspace, str(tmp_path / "out"))) == 1
    assert (tmp_path / "precious").read_text() == "x"


def test_missing_events_are_a_problem_and_no_error(workspace: Workspace, tmp_path: Path) -> None:
    assert save_events(workspace, str(tmp_path / "out")) == [f"{workspace.events}: No such file or directory"]


def test_the_report_is_written_in_one_step(tmp_path: Path) -> None:
    assert save_report({"a": 1}, str(tmp_path / "new" / "out"))
    assert json.loads((tmp_path / "new" / "out" / "report.json").read_text()) == {"a": 1}
    assert os.listdir(tmp_path / "new" / "out") == ["report.json"]


def test_a_report_that_cannot_be_written_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("a file")
    assert not save_report({"a": 1}, str(tmp_path / "out"))
    printed = capfd.readouterr()
    first, *content, last = printed.out.splitlines()
    assert first.startswith("=== pilot-agent report ")
    assert content == ['{"a": 1}']
    assert last.startswith("=== end of pilot-agent report ")
    assert "cannot be written" in printed.err


def test_a_full_disk_prints_the_report(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    small = tmp_path / "small"
    small.mkdir()
    import subprocess

    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", small], check=True)
    try:
        assert not save_report({"a": "x" * 100_000}, str(small))
        assert os.listdir(small) == []
    finally:
        subprocess.run(["umount", small], check=True)
    assert "=== end of pilot-agent report " in capfd.readouterr().out


def test_the_outcome_is_written_into_the_report_once() -> None:
    report = final_report.empty_report("x", 0.0)
    problem = final_report.preempted(15)
    final_report.set_outcome(report, problem)
    final_report.set_outcome(report, problem)
    assert report["outcome"] == {"status": "preempted", "failure": problem}
    assert report["failures"] == [problem]
    final_report.set_end(report, [{"kind": "path"}], 0.5, 0.0)
    assert report["timeline"][-1]["stage"] == "teardown"
    assert report["timeline"][-1]["status"] == "failed"


def test_the_failure_has_the_fields_of_the_model() -> None:
    import dataclasses

    from pilot_agent.model import Failure

    assert set(final_report.preempted(15)) == {field.name for field in dataclasses.fields(Failure)}


def test_an_empty_report_has_the_keys_of_a_real_one() -> None:
    report = final_report.empty_report()
    assert final_report.parse_report(json.dumps(report).encode()) == report


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"pilot": 1}', b"\xff"])
def test_a_damaged_report_is_none(content: bytes) -> None:
    assert final_report.parse_report(content) is None


def test_the_outcome_is_read_back(workspace: Workspace) -> None:
    written = finish.Outcome(65, {"status": "failed", "failure": None}, [{"kind": "mount"}])
    finish.leave_outcome(workspace, written, None)
    found = finish.read_outcome(workspace)
    assert found is not None
    assert found.to_json() == written.to_json()


def test_a_note_is_left_without_a_workspace(tmp_path: Path) -> None:
    finish.leave_note(str(tmp_path), final_report.failure("config", "config.invalid", "x"))
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["outcome"]["failure"]["code"] == "config.invalid"
