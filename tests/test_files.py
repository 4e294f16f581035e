"""Files that are written whole or not at all, and read within bounds."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from pilot_agent.events import EventLog
from pilot_agent.files import read_bounded, write_atomically, write_json
from pilot_agent.workspace import Workspace


def test_a_file_is_replaced_and_nothing_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"old")
    write_atomically(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["state"]


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_atomically(str(tmp_path / "a"), b"x")
        write_atomically(str(tmp_path / "b"), b"x", mode=0o644)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o644


def test_a_full_file_system_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"old")

    def full(descriptor: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            write_atomically(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state"]


def test_a_place_that_cannot_be_replaced_keeps_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(str(tmp_path / "state"), b"new")
    assert os.listdir(tmp_path) == ["state"]


def test_what_a_killed_writer_left_does_not_stop_the_next(tmp_path: Path) -> None:
    path = tmp_path / "state"
    (tmp_path / f"state.{os.getpid()}.new").write_bytes(b"half")
    write_atomically(str(path), b"whole")
    assert path.read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["state"]


def test_a_link_at_the_temporary_place_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    (tmp_path / f"state.{os.getpid()}.new").symlink_to(victim)
    write_atomically(str(tmp_path / "state"), b"new")
    assert victim.read_bytes() == b"untouched"
    assert not (tmp_path / "state").is_symlink()


def test_json_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "document"
    write_json(str(path), {"a": [1, None, "ü"]})
    assert json.loads(path.read_bytes()) == {"a": [1, None, "ü"]}


def test_no_more_than_the_limit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(b"x" * 5000)
    assert len(read_bounded(str(path), limit_bytes=1000)) == 1000
    assert len(read_bounded(str(path))) == 5000
    assert len(read_bounded("/dev/zero", limit_bytes=3 << 20)) == 3 << 20


def test_reading_a_fifo_that_nobody_writes_to_ends(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert read_bounded(str(tmp_path / "fifo")) == b""


def test_reading_what_is_not_there_raises_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_bounded(str(tmp_path / "missing"))


def test_every_event_is_a_line_with_its_time(tmp_path: Path) -> None:
    log = EventLog(str(tmp_path / "events.jsonl"), started=0.0)
    log.write("pilot.started", id="x")
    log.write("stage.finished", stage="probe", path=Path("/tmp"))
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["pilot.started", "stage.finished"]
    assert lines[1]["path"] == "/tmp"
    assert all(line["seconds"] > 0 for line in lines)
    assert stat.S_IMODE((tmp_path / "events.jsonl").stat().st_mode) & 0o077 == 0


def test_an_event_that_cannot_be_recorded_goes_to_standard_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    EventLog(str(tmp_path / "gone" / "events.jsonl"), started=0.0).write("pilot.started")
    said = capfd.readouterr().err
    assert "No such file or directory" in said
    assert "pilot.started" in said


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o277])
def test_only_its_owner_gets_into_a_workspace_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        Workspace(str(tmp_path)).create()
    finally:
        os.umask(before)
    made = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert len(made) == len(Workspace.DIRECTORIES)
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o700}


def test_every_path_of_a_workspace_is_inside_it(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    named = [name for name, value in vars(Workspace).items() if isinstance(value, property)]
    assert named
    for name in named:
        assert Path(getattr(workspace, name)).is_relative_to(tmp_path)


def test_secrets_and_plans_of_a_workspace_are_in_the_private_part(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    private = [workspace.tokens, workspace.journal, workspace.state, workspace.keeper_plan, workspace.outcome]
    private += [workspace.ad_channel, workspace.condor_config]
    assert all(Path(path).is_relative_to(workspace.private) for path in private)
