"""Fixtures shared by the tests of the end of life."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pilot_agent.lifecycle.signals import Alarm
from pilot_agent.light import signal
from tests.lifecycle.bench import Bench
from tests.lifecycle.scenario import Pilot


@pytest.fixture
def pilot(tmp_path: Path) -> Iterator[Pilot]:
    """A pilot that is not started yet; whatever it leaves is ended after the test."""
    made = Pilot(tmp_path)
    yield made
    made.destroy()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A part of the keeper's surroundings, with this process's signals; they are put back after the test."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    alarm = Alarm.install(None, also=(signal.SIGCHLD,), sticky=False)
    made = Bench(tmp_path, alarm)
    yield made
    while made.loop._children:  # a task that still runs belongs to the test that started it
        made.loop.turn()
    alarm.close()
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)
