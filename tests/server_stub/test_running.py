"""A running server leaves word of itself that ends with it."""

from __future__ import annotations

import os
from pathlib import Path

from pilot_agent.files import write_json
from server_stub.running import NAME, RunningFile, read_running


def test_what_was_told_can_be_read_until_the_server_ends(tmp_path: Path) -> None:
    told = RunningFile(str(tmp_path), "1.2", now=100.0)
    told.tell(answered=200.0, problem="the access point does not answer")
    told.tell(problem="")
    found = read_running(str(tmp_path))
    assert found is not None
    assert (found.pid, found.started, found.version) == (os.getpid(), 100.0, "1.2")
    assert (found.answered, found.problem) == (200.0, "")
    told.close()
    assert read_running(str(tmp_path)) is None


def test_a_server_that_was_killed_does_not_run(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    write_json(str(tmp_path / NAME), {"pid": child, "started": 1.0, "version": "1"})
    assert read_running(str(tmp_path)) is None


def test_what_is_no_such_file_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('{"pid": "x"}')
    assert read_running(str(tmp_path)) is None


def test_a_place_that_cannot_be_written_stops_nobody() -> None:
    told = RunningFile("/nowhere/at/all", "1")
    told.tell(answered=1.0)
    told.close()
