"""Events become lines of the system log, and a log that is away costs nothing."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from pilot_syslog import plugin
from pilot_syslog.plugin import LONGEST_BYTES, line_of, pilot_event, send

from pilot_agent.hookspecs import Event

STAGE = Event(name="stage.finished", seconds=1.5, data={"stage": "probe", "status": "ok"})


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (STAGE, b'<30>pilot-agent[7]: stage.finished {"stage": "probe", "status": "ok"}'),
        (
            Event(name="task.ended", seconds=0, data={"status": "failed"}),
            b'<28>pilot-agent[7]: task.ended {"status": "failed"}',
        ),
        (Event(name="x", seconds=0, data={"text": "a\nb"}), b'<30>pilot-agent[7]: x {"text": "a\\nb"}'),
    ],
)
def test_an_event_is_one_line_with_its_priority(event: Event, line: bytes) -> None:
    assert line_of(event, 7) == line


def test_a_line_is_bounded() -> None:
    assert len(line_of(Event(name="x", seconds=0, data={"text": "y" * 10_000}), 7)) == LONGEST_BYTES


def test_what_happened_reaches_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "log")
    monkeypatch.setattr(plugin, "SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(path)
        pilot_event([STAGE, STAGE])
        assert [log.recv(4000).partition(b": ")[2][:14] for _ in range(2)] == [b"stage.finished"] * 2


def test_without_a_log_nothing_is_sent_and_nothing_raised(tmp_path: Path) -> None:
    assert send(str(tmp_path / "nowhere"), [b"x"]) == 0


def test_a_log_that_is_full_is_not_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(path)
        assert 0 < send(path, [b"x" * 1000] * 100_000) < 100_000
