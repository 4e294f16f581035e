"""What goes through the ad channel, read from a real FIFO as the startd's cron job reads it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_agent.lifecycle.channel import AdChannel
from pilot_agent.lifecycle.loop import Loop
from pilot_agent.lifecycle.signals import Alarm

NOW = "- update:true"


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "ads.fifo"
    os.mkfifo(path, 0o600)
    return path


@pytest.fixture
def reader(fifo: Path) -> Iterator[int]:
    descriptor = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    yield descriptor
    os.close(descriptor)


def _messages(loop: Loop, reader: int, count: int) -> list[list[str]]:
    """The first ``count`` whole messages, each as its lines."""
    text = ""
    until = time.monotonic() + 60
    while sum(line.startswith("-") for line in text.splitlines()) < count and time.monotonic() < until:
        loop.turn()
        try:
            text += os.read(reader, 65536).decode()
        except BlockingIOError:
            continue
    messages: list[list[str]] = [[]]
    for line in text.splitlines():
        messages[-1].append(line)
        if line.startswith("-"):
            messages.append([])
    return messages[:count]


@pytest.fixture
def loop() -> Iterator[Loop]:
    alarm = Alarm(None, sticky=False)
    yield Loop(alarm)
    alarm.close()


@pytest.fixture
def channel(loop: Loop, fifo: Path) -> Iterator[AdChannel]:
    channel = AdChannel(loop, str(fifo), 1.0, {"HasBeat": True}, lambda text: None)
    yield channel
    channel.close()


def test_the_first_message_to_a_reader_is_reported_to_the_collector_at_once(
    loop: Loop, channel: AdChannel, reader: int
) -> None:
    first, second = _messages(loop, reader, 2)
    assert "HasBeat = true" in first
    assert first[-1] == NOW
    assert second[-1] == "-", "nothing changed: the startd's own next report is soon enough"


def test_a_changed_attribute_is_reported_at_once(loop: Loop, channel: AdChannel, reader: int) -> None:
    _messages(loop, reader, 1)
    channel.update({"HasBeat": None})
    (changed,) = _messages(loop, reader, 1)
    assert "HasBeat = undefined" in changed
    assert changed[-1] == NOW


def test_what_is_only_noted_goes_with_the_next_message_and_asks_for_none(loop: Loop, fifo: Path, reader: int) -> None:
    told: list[bool] = []
    channel = AdChannel(loop, str(fifo), 1.0, {"HasBeat": True}, lambda text: None, told.append)
    _messages(loop, reader, 2)
    channel.note({"LastRun": 7})
    (renewed,) = _messages(loop, reader, 1)
    assert "LastRun = 7" in renewed
    assert renewed[-1] == "-"
    assert told == []
    channel.close()


def test_who_reports_to_the_collector_is_told_of_a_change_that_was_sent_and_whether_it_is_a_state(
    loop: Loop, fifo: Path, reader: int
) -> None:
    told: list[bool] = []
    channel = AdChannel(loop, str(fifo), 1.0, {"HasBeat": True}, lambda text: None, told.append)
    _messages(loop, reader, 2)
    assert told == [], "what a startd is told first it reports by itself"
    channel.update({"HasBeat": True}, state=True)
    channel.renew()
    _messages(loop, reader, 1)
    assert told == [], "nothing changed"
    channel.update({"Load": 1.5}, state=False)
    assert _messages(loop, reader, 1)[0][-1] == "-"
    assert told == [False]
    channel.update({"Load": 2.5}, state=False)
    channel.update({"HasBeat": False})
    _messages(loop, reader, 1)
    assert told == [False, True]
    channel.close()
